"""The address guard: what is never fetched, what always is, and that nothing slips in between."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from guard_table import BLOCKED_HOSTS, LEGITIMATE, REFUSED_AS_WRITTEN
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from fastmesh.config import FetchSettings
from fastmesh.crawl.net.addresses import Address, is_public, wrapped
from fastmesh.crawl.net.guard import AddressGuard
from fastmesh.crawl.net.url import follow, parse_url
from fastmesh.errors import BlockedAddress, InvalidUrl, UrlError

# Nothing but addresses decides in these tests, so every port is allowed where it is not the matter.
ALL_PORTS = ((1, 65535),)


def guard_for(networks: str = "", ports: object = ALL_PORTS) -> AddressGuard:
    return AddressGuard(FetchSettings.model_validate({"allow_networks": networks, "allow_ports": ports}))


@pytest.mark.parametrize("url", REFUSED_AS_WRITTEN)
def test_what_two_parsers_could_read_differently_is_no_url(url: str):
    with pytest.raises(InvalidUrl, match=r"^the URL is refused: "):
        guard_for().parse(url)


@pytest.mark.parametrize("host", BLOCKED_HOSTS)
def test_an_address_that_is_not_public_is_refused_in_every_spelling(host: str):
    with pytest.raises(BlockedAddress) as refusal:
        guard_for().parse(f"http://{host}/")
    assert "FETCH__ALLOW_NETWORKS" in refusal.value.message
    assert str(parse_url(f"http://{host}/").address) in refusal.value.message


@pytest.mark.parametrize(("written", "canonical"), LEGITIMATE)
def test_an_ordinary_url_is_taken(written: str, canonical: str):
    assert guard_for().parse(written).href == canonical


@pytest.mark.parametrize(("written", "_canonical"), LEGITIMATE)
def test_the_connection_goes_where_the_guard_looked(written: str, _canonical: str):
    parsed = parse_url(written)
    dialled = URL.build(scheme=parsed.scheme, authority=parsed.authority, path="/", encoded=True)
    assert (dialled.raw_host, dialled.port) == (parsed.host, parsed.port)


@given(st.text(st.characters(codec="utf-8", exclude_characters="/?#")))
def test_whatever_is_read_is_read_the_same_again(authority: str):
    try:
        parsed = parse_url(f"http://{authority}/")
    except InvalidUrl:
        return
    assert parse_url(parsed.href) == parsed
    assert URL(parsed.href, encoded=True).raw_host == parsed.host


def test_a_refusal_repeats_no_password():
    with pytest.raises(InvalidUrl) as refusal:
        parse_url("http://user:s3cret@example.com/")
    assert "s3cret" not in refusal.value.message


@pytest.mark.parametrize(
    ("networks", "address", "permitted"),
    [
        ("127.0.0.0/8", "127.0.0.1", True),
        ("127.0.0.0/8", "::ffff:127.0.0.1", True),  # unwrapped it is named
        ("::ffff:127.0.0.0/104", "::ffff:127.0.0.1", True),  # and so it is as it is dialled
        ("::ffff:127.0.0.0/104", "127.0.0.1", False),
        ("127.0.0.0/8", "64:ff9b::7f00:1", True),
        ("127.0.0.0/8", "::1", False),
        ("0.0.0.0/8", "::1", False),
        ("::1/128", "::1", True),
        ("::1/128", "127.0.0.1", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", True),
        ("10.0.0.0/8", "192.168.0.1", False),
        ("127.0.0.0/8", "2001:0:7f00:1::f7f7:f7f7", True),  # the Teredo server is named, its client public
        ("127.0.0.0/8", "2001:0:7f00:1::f5ff:fffe", False),  # its client, 10.0.0.1, is neither
        ("127.0.0.0/8", "fe80::5efe:127.0.0.1", False),
        ("64:ff9b:1::/48", "64:ff9b:1::a00:1", True),
    ],
)
def test_a_network_is_fetched_when_it_is_named(networks: str, address: str, permitted: bool):
    assert guard_for(networks).permits(ip_address(address)) is permitted


@given(st.ip_addresses())
def test_nothing_public_is_special_to_the_standard_library(address: Address):
    # Not the other way round: is_global says yes to much that is refused here, which is why the tables are.
    public_elsewhere = address.is_global or bool(wrapped(address))
    assert public_elsewhere or not is_public(address)


@given(st.ip_addresses(v=4))
def test_every_wrapping_is_judged_as_what_it_wraps(inner: IPv4Address):
    number = int(inner)
    wrappings = [
        number,
        0xFFFF << 32 | number,
        0xFFFF << 48 | number,
        0x64_FF9B << 96 | number,
        0x2002 << 112 | number << 80,
    ]
    for wrapping in map(IPv6Address, wrappings[number < 2 :]):
        assert wrapped(wrapping) == (inner,)
        assert is_public(wrapping) is is_public(inner)


@pytest.mark.parametrize("port", [1, 22, 25, 81, 1023])
def test_a_port_that_is_not_allowed_is_blocked(port: int):
    guard = AddressGuard(FetchSettings())
    with pytest.raises(BlockedAddress, match=f"port {port} .*FETCH__ALLOW_PORTS"):
        guard.parse(f"http://example.com:{port}/")


def test_port_0_is_blocked_and_6379_too_once_it_is_not_listed():
    with pytest.raises(BlockedAddress):
        guard_for().parse("http://example.com:0/")
    with pytest.raises(BlockedAddress):
        guard_for(ports="80,443").parse("http://example.com:6379/")


@pytest.mark.parametrize(
    ("own", "host"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.2"),
        ("127.0.0.1", "[::1]"),
        ("127.0.0.1", "0.0.0.0"),
        ("127.0.0.1", "[::ffff:127.0.0.1]"),
        ("::1", "127.0.0.1"),
        ("0.0.0.0", "127.9.9.9"),
        ("0.0.0.0", "[::]"),
        ("::", "127.0.0.1"),
        ("::", "[::1]"),
        ("192.168.7.7", "192.168.7.7"),
    ],
)
def test_the_daemon_never_fetches_itself(own: str, host: str):
    guard = guard_for("0.0.0.0/0,::/0")
    guard.parse(f"http://{host}:8080/")
    guard.own.add((own, 8080))
    with pytest.raises(BlockedAddress, match="this daemon itself"):
        guard.parse(f"http://{host}:8080/")
    guard.parse(f"http://{host}:8081/")


def test_another_machine_may_have_the_same_port():
    guard = guard_for()
    guard.own.add(("0.0.0.0", 8080))
    assert guard.parse("http://93.184.216.34:8080/").port == 8080


@pytest.mark.parametrize(
    ("location", "leads_to"),
    [
        ("/b", "https://a.example:8443/b#f"),
        ("b?x", "https://a.example:8443/x/b?x#f"),
        ("?y", "https://a.example:8443/x/y?y#f"),
        ("#g", "https://a.example:8443/x/y?z#g"),
        ("", "https://a.example:8443/x/y?z#f"),
        ("/..//evil.example/", "https://a.example:8443//evil.example/#f"),
        ("//b.example/c", "https://b.example/c#f"),
        ("http://b.example/#h", "http://b.example/#h"),
        ("/a b ", "https://a.example:8443/a%20b#f"),
        ("/ü", "https://a.example:8443/%C3%BC#f"),
        ("/b?", "https://a.example:8443/b?#f"),
        ("/b?#g", "https://a.example:8443/b?#g"),
        ("/a\tb", "https://a.example:8443/ab#f"),
        (" \t/a", "https://a.example:8443/a#f"),
        ("/a\x7fb", "https://a.example:8443/a%7Fb#f"),
        ("\\a\\..\\b", "https://a.example:8443/b#f"),
        ("/a?b=\\c|^`{}", "https://a.example:8443/a?b=%5Cc|^`{}#f"),
        ("/\\b.example", "https://b.example/#f"),
        ("\\\\b.example\\c", "https://b.example/c#f"),
        ("http:\\\\b.example", "http://b.example/#f"),
        ("/a@b c", "https://a.example:8443/a@b%20c#f"),
    ],
)
def test_a_redirect_leads_where_a_browser_would_go(location: str, leads_to: str):
    assert follow(parse_url("https://a.example:8443/x/y?z#f"), location).href == leads_to


@pytest.mark.parametrize(
    ("location", "error"),
    [
        ("http://169.254.169.254/latest/meta-data/", BlockedAddress),
        ("//127.0.0.1/", BlockedAddress),
        ("http://2130706433/", BlockedAddress),
        ("http://[::ffff:7f00:1]/", BlockedAddress),
        ("http://example.com:22/", BlockedAddress),
        ("file:///etc/passwd", InvalidUrl),
        ("gopher://example.com/", InvalidUrl),
        ("data:text/html,x", InvalidUrl),
        ("javascript:alert(1)", InvalidUrl),
        ("HTTP:evil.example", InvalidUrl),
        ("/\\127.0.0.1/", BlockedAddress),
        ("\\\\0x7f.1", BlockedAddress),
        ("http:\\\\2130706433\\", BlockedAddress),
        ("//127.0.\t0.1/", BlockedAddress),
        ("\\\\@evil.example", InvalidUrl),
        ("http:\\\\user:pw@evil.example", InvalidUrl),
        ("http://b.example\\@evil.example/", InvalidUrl),
        ("//us\ter@evil.example", InvalidUrl),
        ("//evil.example:99999/ x", InvalidUrl),
        ("java\tscript:alert(1)", InvalidUrl),
        ("\\\\" + "a\u0323" * 4000, InvalidUrl),
        ("/" + "a" * 9000, InvalidUrl),
        ("//user:pw@evil.example/", InvalidUrl),
        ("http://good.example evil.example/", InvalidUrl),
        ("////evil.example", InvalidUrl),
    ],
)
def test_a_redirect_is_judged_like_a_first_url(location: str, error: type[UrlError]):
    guard = AddressGuard(FetchSettings())
    with pytest.raises(error):
        guard.follow(guard.parse("http://example.com/x"), location)


def test_an_empty_query_is_another_url_than_none():
    urls = [parse_url(f"http://a.example/b{end}") for end in ("", "?", "#f?", "?#f", "?c")]
    assert [url.target for url in urls] == ["/b", "/b?", "/b", "/b?", "/b?c"]
    assert [url.href for url in urls] == [f"http://a.example/b{end}" for end in ("", "?", "#f?", "?#f", "?c")]


def test_a_host_that_nobody_can_have_costs_nothing_to_refuse():
    with pytest.raises(InvalidUrl, match="longer than any name"):
        parse_url("http://" + "\u0323\u0301" * 4000)


def test_hosts_are_counted_by_name_and_port_whatever_the_scheme():
    keys = [
        "http://Example.com:8443/a",
        "https://example.com.:8443/b",
        "http://example.com/",
        "http://[::FFFF:1.1.1.1]/",
    ]
    assert [parse_url(url).host_key for url in keys] == [
        "example.com:8443",
        "example.com:8443",
        "example.com:80",
        "[::ffff:101:101]:80",
    ]
