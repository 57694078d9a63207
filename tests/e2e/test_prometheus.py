"""Alerts and dashboard against Debian's Prometheus: rules that hold, an alert that fires, queries that find data."""

from __future__ import annotations

import json
import math
import re
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import need
from daemons import PATIENCE_S, Daemon
from origins import Origin
from sockets import WebSocket

DEPLOY = Path(__file__).parents[2] / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
RULE_TESTS = DEPLOY / "prometheus" / "tests" / "alerts_test.yml"
DASHBOARD = DEPLOY / "grafana" / "fastmesh.json"
DOCS = Path(__file__).parents[2] / "docs" / "observability.md"
INSTANCE_LABELS = {"instance", "job"}

CONFIG = """
global: {{scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 250ms}}
rule_files: ['{rules}']
scrape_configs:
  - job_name: fastmesh
    static_configs: [{{targets: [{targets}]}}]
"""


def alerts() -> list[str]:
    return re.findall(r"- alert: (\w+)", ALERTS.read_text())


def queries() -> list[str]:
    """Every query of the dashboard."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", ())]


class Prometheus:
    """A real one, asked over its API."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str, **query: str) -> Any:
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}", timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[float]:
        """The values that are numbers."""
        found = self.ask("query", query=expression)["result"]
        values = [float(sample["value"][1]) for sample in found]
        return [value for value in values if not math.isnan(value)]

    def firing(self) -> dict[str, dict[str, str]]:
        """The labels of what fires now, by its name."""
        found = self.ask("alerts")["alerts"]
        return {a["labels"]["alertname"]: a["labels"] for a in found if a["state"] == "firing"}


def until(true: Callable[[], Any]) -> Any:
    """What *true* says, once it is not nothing."""
    end = time.monotonic() + PATIENCE_S
    while not (said := true()):
        assert time.monotonic() < end, "it never came to be"
    return said


@contextmanager
def watched(daemon: Daemon, folder: Path) -> Iterator[Prometheus]:
    """A Prometheus that scrapes *daemon* four times a second with the rules as they are deployed."""
    program = need("prometheus")
    config = folder / "prometheus.yml"
    config.write_text(CONFIG.format(rules=ALERTS, targets=f"'{daemon.host}'"))
    log = folder / "prometheus.log"
    command = [program, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
    with log.open("w") as said:
        process = subprocess.Popen([*command, "--web.listen-address=127.0.0.1:0"], stderr=said, stdout=said)
    try:

        def address() -> str | None:
            assert process.poll() is None, log.read_text()
            match = re.search(r'"?Listening on"? .*?address=([\d.]+:\d+)', log.read_text())
            return match and match[1]

        prometheus = Prometheus(f"http://{until(address)}")
        until(lambda: _answers(prometheus))
        yield prometheus
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _answers(prometheus: Prometheus) -> bool:
    try:
        return bool(prometheus.query('up{job="fastmesh"} == 1'))
    except OSError:
        return False


# ── rules ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("arguments", [["check", "rules", str(ALERTS)], ["test", "rules", str(RULE_TESTS)]])
def test_promtool_finds_nothing(arguments: list[str]) -> None:
    done = subprocess.run([need("promtool"), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_both_ways_and_explained() -> None:
    tested = RULE_TESTS.read_text()
    for name in alerts():
        assert f"name: {name} fires\n" in tested
        assert f"name: {name} is quiet\n" in tested
    sections = {heading.lower() for heading in re.findall(r"^#+ (\w+)$", DOCS.read_text(), re.MULTILINE)}
    runbooks = set(re.findall(r"runbook: docs/observability.md#(\w+)", ALERTS.read_text()))
    assert len(runbooks) > 15
    assert runbooks <= sections


def test_alerts_ask_for_metrics_that_exist(daemon: Daemon) -> None:
    daemon.ask("GET", "/firehose/stream?frames=1")
    said = daemon.ask("GET", "/metrics").body.decode()
    exist = set(re.findall(r"^(fastmesh_\w+)", said, re.MULTILINE))
    expressions = re.sub(r"(annotations|labels):.*", "", ALERTS.read_text())
    assert set(re.findall(r"fastmesh_\w+", expressions)) - exist == set()


def test_promtool_has_nothing_against_the_metrics(daemon: Daemon) -> None:
    said = daemon.ask("GET", "/metrics").body
    done = subprocess.run([need("promtool"), "check", "metrics"], input=said, capture_output=True)
    assert (done.returncode, done.stderr.decode()) == (0, "")


# ── a real one ───────────────────────────────────────────────────────────────────────────


def test_an_alert_fires_when_a_daemon_is_in_that_state(tmp_path: Path) -> None:
    """Its descriptors are used up: whoever connects is not accepted, and the alert says where."""
    with Daemon() as daemon, watched(daemon, tmp_path) as prometheus:
        assert prometheus.firing() == {}
        used = len(list(Path(f"/proc/{daemon.pid}/fd").iterdir()))
        subprocess.run(["prlimit", f"--pid={daemon.pid}", f"--nofile={used}:{used + 2000}"], check=True)
        waiting = [daemon.connect() for _ in range(5)]
        fired = until(lambda: prometheus.firing().get("FastmeshUnaccepted"))
        assert fired == {
            "alertname": "FastmeshUnaccepted",
            "instance": daemon.host,
            "job": "fastmesh",
            "severity": "critical",
        }
        for peer in waiting:
            peer.sock.close()
        subprocess.run(["prlimit", f"--pid={daemon.pid}", f"--nofile={used + 1000}"], check=True)


def test_every_query_of_the_dashboard_finds_data(tmp_path: Path, origin: Origin) -> None:
    urls = [origin.page(f"/board/{at}", f"<title>{at}</title>") for at in range(10)]
    table = tmp_path / "search.json"
    table.write_text(json.dumps({"pages": urls[:2]}))
    settings = {"FETCH__ALLOW_NETWORKS": "127.0.0.0/8", "FIREHOSE__ENABLED": "true"}
    search = {"SEARCH__PROVIDER": "static", "SEARCH__STATIC_FILE": str(table)}
    with Daemon(**settings, **search) as daemon, watched(daemon, tmp_path) as prometheus:

        def use() -> None:
            """A little of everything."""
            daemon.ask("POST", "/crawl/stream", {"urls": urls})
            daemon.ask("POST", "/crawl/sse", {"urls": [*urls, "nonsense"]})
            daemon.ask("POST", "/deepsearch/stream", {"query": "pages"})
            with WebSocket(daemon) as socket:
                id_ = socket.tell("crawl", urls=urls[:1])
                socket.answer(id_)

        with daemon.connect() as held:  # windows are sampled while somebody reads
            held.send(held.request("GET", "/firehose/stream?frames=1000000&rate=100"))
            held.head()
            wanted = {query: query.replace("$__rate_interval", "5s").replace("$instance", ".+") for query in queries()}
            assert len(wanted) > 40

            def missing() -> list[str]:
                use()
                return [query for query, asked in wanted.items() if not prometheus.query(asked)]

            end = time.monotonic() + PATIENCE_S
            while (left := missing()) and time.monotonic() < end:
                pass
            assert left == []
