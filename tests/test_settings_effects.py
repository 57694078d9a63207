"""Every setting has an effect, and a test that fails when it has none.

A setting that is added to the model wants a line here.  Each test was seen to fail with its setting's value thrown
away; a test that only reads the value back is none.
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

from fastmesh.config import every_setting

TESTS = Path(__file__).parent

SHOWN_BY = {
    "SERVER__HOST": "server/test_limits.py::test_ipv6_loopback",
    "SERVER__PORT": "server/test_limits.py::test_the_port_that_is_set_is_bound",
    "SERVER__UDS": "server/test_limits.py::TestUnixSocket::test_serves_and_leaves_no_file",
    "SERVER__ALLOWED_HOSTS": "server/test_limits.py::test_allowed_hosts",
    "SERVER__MAX_CONNECTIONS": "server/test_limits.py::TestConnections::test_one_too_many_is_told_503",
    "SERVER__MAX_CONNECTIONS_PER_PEER": (
        "server/test_limits.py::TestConnections::test_one_too_many_of_a_peer_is_told_429"
    ),
    "SERVER__MAX_AGE_S": "server/test_limits.py::TestConnections::test_an_old_connection_ends_between_requests",
    "SERVER__HEADER_TIMEOUT_S": "server/test_timeouts.py::test_what_drips_is_told_408",
    "SERVER__BODY_TIMEOUT_S": "server/test_timeouts.py::test_a_body_that_does_not_come_is_told_408",
    "SERVER__KEEPALIVE_TIMEOUT_S": "server/test_timeouts.py::test_an_idle_connection_is_closed",
    "SERVER__WRITE_STALL_TIMEOUT_S": (
        "server/test_timeouts.py::test_who_takes_no_byte_for_the_write_stall_timeout_is_disconnected"
    ),
    "SERVER__MAX_HEADER_BYTES": "server/test_limits.py::test_header_and_body_limits",
    "SERVER__MAX_BODY_BYTES": "server/test_limits.py::test_header_and_body_limits",
    "SERVER__DRAIN_TIMEOUT_S": "server/test_drain.py::test_it_ends_within_the_deadline_whatever_clients_do",
    "STREAM__MAX_CONCURRENT": "server/test_limits.py::TestStreams::test_over_the_limit_of_all_is_503",
    "STREAM__MAX_PER_CLIENT": "e2e/test_access.py::test_a_client_is_its_token_even_on_loopback",
    "STREAM__RATE_LIMIT_RPS": "e2e/test_access.py::test_every_way_to_open_a_stream_has_the_rate",
    "STREAM__RATE_LIMIT_BURST": "e2e/test_access.py::test_every_way_to_open_a_stream_has_the_rate",
    "STREAM__MAX_URLS": "server/test_limits.py::TestStreams::test_too_many_urls_are_400_with_the_setting",
    "STREAM__HEARTBEAT_S": "server/test_limits.py::test_the_heartbeat_keeps_a_silent_stream_alive",
    "STREAM__SSE_RETRY_MS": "server/test_settings.py::test_retry_of_sse",
    "STREAM__WS_PING_S": "server/test_websocket.py::test_a_silent_client_is_pinged_and_gone_without_a_pong",
    "STREAM__WS_PONG_TIMEOUT_S": "server/test_websocket.py::test_a_silent_client_is_pinged_and_gone_without_a_pong",
    "STREAM__WS_MAX_MESSAGE_BYTES": "server/test_websocket.py::test_so_long_a_message_as_is_set",
    "STREAM__WS_DEFLATE": "server/test_websocket.py::test_compressed_commands_and_answers",
    "STREAM__DEADLINE_S": "server/test_limits.py::test_the_deadline_ends_a_stream_with_its_summary",
    "STREAM__RESUME_WINDOW_S": "e2e/test_streams_api.py::test_a_stream_to_which_nobody_comes_is_cancelled",
    "STREAM__JOURNAL_BYTES": "e2e/test_streams_api.py::test_what_is_kept_no_more_is_named_by_a_gap",
    "STREAM__DETACHED_BYTES": (
        "e2e/test_streams_api.py::test_a_detached_stream_waits_when_it_is_full_and_loses_nothing"
    ),
    "STREAM__MAX_FRAME_BYTES": "server/test_settings.py::test_max_frame_bytes_shortens_documents",
    "BUFFER__INITIAL_FRAMES_NDJSON": "server/test_settings.py::test_the_window_is_how_far_a_stream_runs_ahead",
    "BUFFER__INITIAL_FRAMES_SSE": "streaming/test_who_waits.py::test_each_protocol_has_a_window_of_its_own",
    "BUFFER__INITIAL_FRAMES_WEBSOCKET": "streaming/test_who_waits.py::test_each_protocol_has_a_window_of_its_own",
    "BUFFER__MIN_FRAMES": (
        "streaming/test_adaptive.py::test_a_reader_that_is_slow_for_good_gets_a_smaller_window_each_second"
    ),
    "BUFFER__MAX_FRAMES": (
        "streaming/test_adaptive.py::test_a_reader_that_reads_all_gets_a_larger_window_as_long_as_it_is_held_back"
    ),
    "BUFFER__INITIAL_BYTES": (
        "streaming/test_adaptive.py::test_a_reader_that_reads_all_gets_a_larger_window_as_long_as_it_is_held_back"
    ),
    "BUFFER__MAX_BYTES": (
        "streaming/test_adaptive.py::test_a_reader_that_reads_all_gets_a_larger_window_as_long_as_it_is_held_back"
    ),
    "BUFFER__SLOW_MS": (
        "streaming/test_module.py"
        "::TestByTheClock::test_a_client_that_does_not_read_is_slow_until_a_second_after_it_reads"
    ),
    "BUFFER__DROP_THRESHOLD": "streaming/test_dropping.py::test_drop_never_waits_and_names_what_was_left_out",
    "BUFFER__HIGH_WATER_BYTES": "server/test_settings.py::test_the_high_mark_is_where_the_transport_pauses",
    "BUFFER__LOW_WATER_BYTES": "server/test_settings.py::test_the_low_mark_is_where_it_goes_on",
    "BUFFER__TOTAL_BYTES": "e2e/test_health_states.py::test_full_journals_refuse_new_streams_and_lose_nothing",
    "FETCH__CONCURRENCY": "server/test_settings.py::test_fetch_concurrency_is_over_all_hosts",
    "FETCH__PER_HOST_CONCURRENCY": ("e2e/test_hostile_origins.py::test_concurrency_is_enforced_by_stream_and_host"),
    "FETCH__PER_HOST_RPS": "e2e/test_manners.py::test_starts_at_a_host_keep_to_the_rate",
    "FETCH__TIMEOUT_MS": "server/test_settings.py::test_fetch_concurrency_is_over_all_hosts",
    "FETCH__CONNECT_TIMEOUT_MS": "server/test_settings.py::test_connect_timeout",
    "FETCH__MAX_BODY_BYTES": "e2e/test_hostile_origins.py::test_a_request_may_lower_a_limit_and_never_raise_it",
    "FETCH__TOTAL_BYTES": "server/test_settings.py::test_over_the_total_of_bodies_reading_waits",
    "FETCH__MAX_REDIRECTS": "server/test_settings.py::test_max_redirects",
    "FETCH__RETRIES": "e2e/test_manners.py::test_how_often_at_most_is_a_setting",
    "FETCH__USER_AGENT": "e2e/test_hostile_origins.py::test_headers_and_user_agent_are_sent",
    "FETCH__RESPECT_ROBOTS": "e2e/test_disallowed.py::test_a_request_may_choose_and_the_setting_is_its_default",
    "FETCH__ALLOW_NETWORKS": "e2e/test_hostile_origins.py::TestGuard::test_ports",
    "FETCH__NAMESERVERS": "e2e/test_health_states.py::test_the_nameservers_that_are_set_are_asked",
    "FETCH__ALLOW_PORTS": "e2e/test_hostile_origins.py::TestGuard::test_ports",
    "WORKERS__EXTRACT": "server/test_settings.py::test_so_many_workers_extract",
    "CACHE__TTL_S": "e2e/test_caching.py::test_nothing_is_kept_without_room_or_time",
    "CACHE__MAX_BYTES": "e2e/test_caching.py::test_the_cache_keeps_within_its_bytes",
    "AUTH__TOKENS_FILE": "e2e/test_access.py::test_a_unix_socket_wants_tokens_too",
    "AUTH__INSECURE": "server/test_limits.py::test_a_public_address_needs_the_word",
    "CORS__ALLOW_ORIGINS": "e2e/test_streams_api.py::test_a_page_of_an_allowed_origin_may_ask",
    "TLS__CERT": "server/test_tls.py::test_the_certificate_that_is_set_is_shown",
    "TLS__KEY": "server/test_tls.py::test_the_certificate_that_is_set_is_shown",
    "LOG__LEVEL": "server/test_settings.py::TestLogs::test_the_level_hides_what_is_below_it",
    "LOG__FORMAT": "server/test_settings.py::TestLogs::test_console_is_for_people_and_obeys_no_page",
    "TRACE__OTLP_URL": ("e2e/test_spans.py::test_a_stream_its_urls_and_their_requests_are_spans_of_the_clients_trace"),
    "FIREHOSE__ENABLED": "server/test_limits.py::test_the_firehose_is_off_by_default",
    "SEARCH__PROVIDER": "api/test_deepsearch.py::test_searxng_over_its_json_api",
    "SEARCH__URL": "api/test_deepsearch.py::test_searxng_over_its_json_api",
    "SEARCH__STATIC_FILE": "api/test_deepsearch.py::test_what_is_found_goes_through_the_address_guard",
}


def test_every_setting_has_its_test() -> None:
    assert list(SHOWN_BY) == [str(setting) for setting in every_setting()]


@pytest.mark.parametrize(("setting", "node"), SHOWN_BY.items(), ids=list(SHOWN_BY))
def test_that_test_is_there_and_sets_it(setting: str, node: str) -> None:
    file, *names = node.split("::")
    defined = _defined(file)
    assert names[0] in defined, f"{file} has no {names[0]}"
    tree = defined[names[0]]
    for name in names[1:]:
        tree = next(child for child in ast.iter_child_nodes(tree) if getattr(child, "name", None) == name)
    assert names[-1].startswith("test_")
    reached, todo = {names[-1]}, [tree]
    while todo:  # the test, and what it names of its own file: constants, fixtures, helpers
        tree = todo.pop()
        if _names(tree) >= {setting}:
            return
        more = (_names(tree) & defined.keys()) - reached
        reached |= more
        todo += [defined[name] for name in more]
    raise AssertionError(f"{node} sets no {setting}")


@functools.cache
def _defined(file: str) -> dict[str, ast.AST]:
    """What stands at the top of *file*, by its name."""
    found: dict[str, ast.AST] = {}
    for tree in ast.parse((TESTS / file).read_text("utf-8")).body:
        if isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found[tree.name] = tree
        elif isinstance(tree, ast.Assign | ast.AnnAssign):
            targets = tree.targets if isinstance(tree, ast.Assign) else [tree.target]
            found |= {target.id: tree for target in targets if isinstance(target, ast.Name)}
    return found


@functools.cache
def _names(tree: ast.AST) -> set[str]:
    """Every name in *tree*: of variables, parameters and keywords, and whole strings."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.arg | ast.keyword) and node.arg is not None:
            names.add(node.arg)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.add(node.value)
    return names
