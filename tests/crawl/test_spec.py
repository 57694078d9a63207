"""What a document is to hold: each field a request's option, and the value whole on its way to the worker."""

from __future__ import annotations

from typing import get_args

import orjson
import pytest

from fastmesh.api.requests.options import PageOptions
from fastmesh.crawl.extract.grades import EXTRACTORS
from fastmesh.crawl.extract.spec import ExtractSpec, Grade, document_room


def test_every_field_but_its_size_is_an_option_of_a_request_with_the_same_default() -> None:
    assert ExtractSpec.asked(PageOptions(), 9) == ExtractSpec(9)
    for name in ExtractSpec._fields[1:]:
        assert name in PageOptions.model_fields


def test_every_grade_that_a_request_may_name_is_in_the_workers_table() -> None:
    assert set(get_args(Grade)) == set(EXTRACTORS)


@pytest.mark.parametrize("spec", [ExtractSpec(9), ExtractSpec(1 << 40, frozenset(), "quality")])
def test_it_is_equal_where_it_arrives(spec: ExtractSpec) -> None:
    arrived = ExtractSpec.read(orjson.loads(orjson.dumps([*spec], default=sorted)))
    assert (arrived, hash(arrived)) == (spec, hash(spec))


def test_only_long_names_take_of_a_documents_room() -> None:
    usual = document_room(1 << 20)
    assert usual == document_room(1 << 20, "http://h/", None, "http://h/" + "x" * 1900, "text/html")
    assert document_room(1 << 20, "x" * 3000) == usual - (3000 + len('[""]') - 2048)
    spec = ExtractSpec(usual)
    assert spec.within(usual) is spec
    assert spec.within(usual - 1) == ExtractSpec(usual - 1)
