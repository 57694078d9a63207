"""Writes docs/frames.schema.json: ``python -m fastmesh.api.openapi > docs/frames.schema.json``."""

import sys

import orjson

from fastmesh.api.openapi.schemas import frames_schema

sys.stdout.buffer.write(orjson.dumps(frames_schema(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
