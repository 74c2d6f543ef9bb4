"""Event types have JSON Schemas: which schemas are taken, and what is wrong with a payload.

A schema is of draft 2020-12 unless its `$schema` names another draft. Schemas and payloads may come from strangers:

* nothing is ever fetched: a `$ref` that leaves the document is refused when the schema is saved;
* regular expressions run in linear time, so lookaround and back-references are refused;
* size, depth and parts are bounded, parts with references written out: a few lines of them can stand for 2^60 parts.
"""

from tenterhook.schemas.check import check_schema, check_schemas
from tenterhook.schemas.explain import Problem
from tenterhook.schemas.payload import MOST_PROBLEMS, examples, newest, problems

__all__ = ["MOST_PROBLEMS", "Problem", "check_schema", "check_schemas", "examples", "newest", "problems"]
