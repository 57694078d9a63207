"""Answers in memory: what is found, what is let go, and that the bytes are those that are allocated."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmesh.crawl.cache.freshness import Lifetime
from fastmesh.crawl.cache.memory import MAX_VARIANTS, PART_BYTES, RECORD_BYTES, MemoryStore
from fastmesh.crawl.cache.store import BODY, Answer
from fastmesh.crawl.extract.gate import NO_PAGE
from fastmesh.crawl.extract.spec import Extracted, ExtractSpec

A, B = b"a" * 16, b"b" * 16
SPEC = ExtractSpec(9)


def made(size: int) -> Extracted:
    """A document of *size* bytes."""
    return Extracted(b"z" * size, NO_PAGE)


def answer(body: bytes = b"body") -> Answer:
    return Answer(200, None, "text/html", {}, body, len(body), 1e9, 1000.0, Lifetime(60, 0))


def cache(max_bytes: int = 1_000_000) -> MemoryStore:
    return MemoryStore(max_bytes)


def test_what_is_kept_is_found_by_its_key() -> None:
    kept, store = answer(), cache()
    assert store.find(A, {}) is None
    assert store.keep(A, {}, kept)
    assert (store.find(A, {}), store.find(B, {})) == (kept, None)
    store.forget(kept)
    store.forget(kept)
    assert (store.find(A, {}), store.used_bytes, len(store._parts), store.answers) == (None, 0, 0, 0)


def test_answers_chosen_by_a_header_stand_side_by_side() -> None:
    store, german, french, any_ = cache(), answer(), answer(), answer()
    german.chosen_by, french.chosen_by = (("accept-language", "de"),), (("accept-language", "fr"),)
    de, fr = {"accept-language": "de", "accept": "x"}, {"accept-language": "fr"}
    store.keep(A, de, german)
    assert store.find(A, fr) is None
    assert store.find(A, {}) is None
    store.keep(A, fr, french)
    assert (store.find(A, de), store.find(A, de | {"accept": "y"}), store.find(A, fr)) == (german, german, french)
    store.keep(A, {}, any_)  # chosen by nothing: it fits everybody, and is the newest
    assert (store.find(A, de), store.find(A, {})) == (any_, any_)


def test_a_newer_answer_takes_the_place_of_the_older_one() -> None:
    store, first, second = cache(), answer(), answer()
    store.keep(A, {}, first)
    store.keep(A, {}, second)
    assert (store.find(A, {}), store.answers) == (second, 1)


def test_a_key_has_so_many_variants_and_no_more() -> None:
    store = cache()
    for number in range(3 * MAX_VARIANTS):
        page = answer()
        page.chosen_by = (("accept", str(number)),)
        store.keep(A, {"accept": str(number)}, page)
    assert store.answers == MAX_VARIANTS
    assert store.find(A, {"accept": str(3 * MAX_VARIANTS - 1)}) is not None
    assert store.find(A, {"accept": "0"}) is None


def test_the_longest_unused_part_leaves_first_and_a_body_takes_its_documents_along() -> None:
    page, other = answer(b"x" * 3000), answer(b"y" * 3000)
    store = cache(14_000)
    store.keep(A, {}, page)
    store.add_document(page, SPEC, made(1000))
    store.keep(B, {}, other)
    store.used(page)
    store.add_document(other, SPEC, made(2000))
    store.keep(b"c" * 16, {}, answer(b"w" * 1000))
    # The document of the page was asked for by nobody since; its body was.
    assert (store.find(A, {}), page.documents) == (page, {})
    store.add_document(page, SPEC, made(1000))
    store.used(page, SPEC)
    assert (store.find(B, {}), other.documents) == (None, {SPEC: made(2000)})
    assert store.used_bytes <= store.max_bytes


def test_who_holds_an_answer_that_leaves_has_it_whole() -> None:
    store, page = cache(5000), answer(b"x" * 2000)
    store.keep(A, {}, page)
    store.keep(B, {}, answer(b"y" * 2000))
    assert (store.find(A, {}), page.body, store.answers) == (None, b"x" * 2000, 1)


def test_what_does_not_fit_pushes_nothing_out() -> None:
    store, page = cache(10_000), answer()
    store.keep(A, {}, page)
    assert not store.keep(B, {}, answer(b"x" * 10_000))
    store.add_document(page, SPEC, made(10_000))
    assert (store.find(A, {}), store.find(B, {}), page.documents) == (page, None, {})
    nothing = cache(0)
    assert not nothing.keep(A, {}, answer(b""))


def test_a_document_of_what_is_not_kept_is_not_kept() -> None:
    store, page = cache(), answer()
    store.add_document(page, SPEC, made(1))
    assert (page.documents, store.used_bytes) == ({}, 0)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["keep", "document", "use", "forget"]),
            st.integers(0, 5),
            st.integers(0, 3000),
            st.booleans(),
        ),
        max_size=60,
    )
)
def test_the_sum_is_always_that_of_its_parts(steps: list[tuple[str, int, int, bool]]) -> None:
    store = cache(9_000)
    known: dict[int, Answer] = {}
    for verb, at, size, flag in steps:
        page = known.get(at)
        if verb == "keep":
            known[at] = answer(b"x" * size)
            store.keep(bytes([at]), {}, known[at])
        elif page is not None and verb == "document":
            store.add_document(page, SPEC.within(flag), made(size))
        elif page is not None and verb == "use":
            store.used(page, BODY if flag else SPEC.within(True))
        elif page is not None:
            store.forget(page)
        assert store.used_bytes == sum(store._parts.values()) + sum(cost for _, cost in store._kept.values())
        assert store.used_bytes <= store.max_bytes
        assert set(store._kept) == {answer for answer, _ in store._parts}
        assert store.answers == sum(map(len, store._by_key.values()))
        for kept in store._kept:
            assert (kept, BODY) in store._parts
    for page in known.values():
        store.forget(page)
    assert (store.used_bytes, len(store._parts), store.answers, store._by_key) == (0, 0, 0, {})


@pytest.mark.parametrize("size", [0, 300, 90_000])
def test_its_bytes_are_those_that_are_allocated(size: int) -> None:
    count = 400
    store = cache(1 << 30)
    fields: dict[str, Any] = {"cache-control": "max-age=60", "etag": '"0123456789abcdef"', "date": "x" * 29}
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(count):
            own = {name: f"{value}{number}" for name, value in fields.items()}
            page = answer(b"%d" % number + b"x" * size)
            page.fields = own
            key = number.to_bytes(16, "big")
            store.keep(key, {}, page)
            document = b"%d" % number + b"y" * size
            store.add_document(page, SPEC, Extracted(document, NO_PAGE))
            del page, own, document, key
        gc.collect()
        allocated = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert allocated <= store.used_bytes <= allocated * 1.6
    assert store.used_bytes - count * (RECORD_BYTES + 2 * PART_BYTES + 2 * size) < count * 1000
