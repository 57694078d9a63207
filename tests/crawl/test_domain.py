"""Domains: which names are one owner's, as far as can be guessed."""

from __future__ import annotations

import pytest

from fastmesh.crawl.net.url import domain_of


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("test", "test"),
        ("a.test.", "a.test"),
        ("www.example.com", "example.com"),
        ("x.y.z.example.com", "example.com"),
        ("www.example.co.uk", "example.co.uk"),
        ("a.b.example.com.au", "example.com.au"),
        ("example.de", "example.de"),
        ("www.example.de", "example.de"),
        ("shop.ab.de", "ab.de"),
        ("www.bl.uk", "bl.uk"),
        ("a.b.gov.uk", "b.gov.uk"),
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.0x1", "192.0.2.0x1"),
        ("[2001:db8::1]", "[2001:db8::1]"),
        ("", ""),
    ],
)
def test_names_of_one_domain_take_turns(name: str, domain: str) -> None:
    assert domain_of(name) == domain
