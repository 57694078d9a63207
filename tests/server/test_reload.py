"""SIGHUP: what a running daemon takes anew holds at once, what it cannot it says, and a mistake changes nothing."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from daemons import Daemon

from fastmesh import config
from fastmesh.server.daemon import RELOADABLE, merged

OTHER = "https://reloaded.example"


class Configured:
    """A daemon with a file of settings."""

    def __init__(self, daemon: Daemon, path: Path) -> None:
        self.daemon = daemon
        self._path = path
        self._times = 0

    def reload(self, text: str) -> dict[str, Any]:
        """Write *text*, have it read; return what the daemon says of it."""
        self._path.write_text(text)
        self._times += 1
        self.daemon.process.send_signal(signal.SIGHUP)
        while True:
            said = [*self.daemon.logs("daemon.reloaded"), *self.daemon.logs("daemon.reload_refused")]
            if len(said) == self._times:
                return max(said, key=lambda line: str(line["timestamp"]))


@pytest.fixture
def configured(tmp_path: Path) -> Iterator[Configured]:
    path = tmp_path / "fastmesh.toml"
    path.write_text("[stream]\nmax_urls = 5\n")
    with Daemon("--config", str(path), FIREHOSE__ENABLED="true") as daemon:
        yield Configured(daemon, path)


def test_limits_of_requests_hold_from_then_on(configured: Configured) -> None:
    daemon = configured.daemon
    five = {"urls": ["x"] * 5}
    assert daemon.ask("POST", "/crawl/stream", five).status == 200
    with daemon.connect() as kept:
        assert kept.ask("GET", "/livez").status == 200
        said = configured.reload(
            f'[stream]\nmax_urls = 4\n[server]\nmax_body_bytes = 300\nallowed_hosts = "new.example,127.0.0.1"\n'
            f'[cors]\nallow_origins = "{OTHER}"\n'
        )
        assert said["changed"] == [
            "SERVER__ALLOWED_HOSTS",
            "SERVER__MAX_BODY_BYTES",
            "STREAM__MAX_URLS",
            "CORS__ALLOW_ORIGINS",
        ]
        assert said["wants_restart"] == []
        assert daemon.ask("POST", "/crawl/stream", five).json["error"]["field"] == "urls"
        assert kept.ask("POST", "/crawl/stream", {"urls": ["x" * 400]}).status == 413
        assert daemon.ask("GET", "/livez", Host="new.example").status == 200
        assert daemon.ask("GET", "/livez", Host="other.example").status == 421
        assert "access-control-allow-origin" in daemon.ask("GET", "/streams", origin=OTHER).headers


def test_what_is_not_named_any_more_has_its_default_again(configured: Configured) -> None:
    assert configured.reload("")["changed"] == ["STREAM__MAX_URLS"]
    assert configured.daemon.ask("POST", "/crawl/stream", {"urls": ["x"] * 6}).status == 200


def test_the_number_of_streams_is_counted_against_the_new_limit(configured: Configured) -> None:
    daemon = configured.daemon
    with daemon.connect() as first:
        first.send(first.request("GET", "/firehose/stream?frames=100000&rate=10"))
        assert first.head().status == 200
        configured.reload("[stream]\nmax_concurrent = 1\n")
        assert daemon.ask("POST", "/crawl/stream", {"urls": ["x"]}).status == 503
        configured.reload("[stream]\nmax_concurrent = 2\n")
        assert daemon.ask("POST", "/crawl/stream", {"urls": ["x"]}).status == 200
        assert next(first.frames())["type"] == "metadata"  # and what runs goes on


def test_the_level_of_the_log_changes(configured: Configured) -> None:
    daemon = configured.daemon
    daemon.ask("GET", "/livez")
    assert daemon.logs("request.answered") == []
    configured.reload('[log]\nlevel = "debug"\n')
    daemon.ask("GET", "/livez")
    while not (lines := daemon.logs("request.answered")):  # written right after the answer
        pass
    assert lines[0]["route"] == "/livez"


def test_what_wants_a_restart_is_named_and_left_as_it_was(configured: Configured) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    said = configured.reload(
        f"[stream]\nmax_urls = 5\nsse_retry_ms = 1\n[fetch]\nconcurrency = 3\n[server]\nuds = '/{port}'\n"
    )
    assert said["changed"] == []
    assert said["wants_restart"] == ["SERVER__UDS", "STREAM__SSE_RETRY_MS", "FETCH__CONCURRENCY"]
    assert configured.daemon.ask("GET", "/livez").status == 200


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[stream]\nmax_urls = 0\n", "STREAM__MAX_URLS=0 (file "),
        ("[stream]\nmax_url = 1\n", "unknown setting STREAM__MAX_URL=1"),
        ("max_urls", "is not TOML"),
    ],
)
def test_a_mistake_is_named_and_changes_nothing(configured: Configured, text: str, message: str) -> None:
    said = configured.reload(text)
    assert said["event"] == "daemon.reload_refused"
    assert message in said["error"]
    assert configured.daemon.ask("POST", "/crawl/stream", {"urls": ["x"] * 6}).status == 400
    assert configured.daemon.ask("POST", "/crawl/stream", {"urls": ["x"] * 5}).status == 200
    assert "Traceback" not in configured.daemon.stderr()


def test_every_setting_that_is_taken_anew_exists() -> None:
    known = {name for name, *_ in config.load(environ={}).table()}
    assert {config.setting_name(*pair) for pair in RELOADABLE} <= known


def test_of_two_sets_of_settings_the_old_one_keeps_what_it_must() -> None:
    old = config.load({"STREAM__MAX_URLS": 5, "WORKERS__EXTRACT": 1}, environ={}).values
    new = config.load({"STREAM__HEARTBEAT_S": 3, "WORKERS__EXTRACT": 2}, environ={}).values
    result, taken, left = merged(old, new)
    assert taken == ["STREAM__MAX_URLS", "STREAM__HEARTBEAT_S"]
    assert left == ["WORKERS__EXTRACT"]
    assert (result.stream.max_urls, result.stream.heartbeat_s, result.workers.extract) == (1000, 3, 1)
    assert merged(result, result) == (result, [], [])
