"""JSON Schemas: the cases of the JSON-Schema-Test-Suite, and random ones."""

from __future__ import annotations

import itertools
import json
import os
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from llm_serve.backends.transformers.guides import trial

from .random_schemas import random_schemas

NOT_GENERATED = {
    "const": 4,  # 0.0 for 0 and the like
    "enum": 4,
    "type": 1,
    "format": 10,  # which must hold, and is more than a remark
}
"""Cases of values that are valid and that no answer can be; of each file."""
REFUSED = {
    *(
        "contains",
        "defs",
        "oneOf",
        "dependentRequired",
        "dependentSchemas",
        "dynamicRef",
        "if-then-else",
    ),
    *("maxContains", "minContains", "not", "propertyNames", "refRemote", "unevaluatedItems"),
    *("unevaluatedProperties", "uniqueItems", "vocabulary"),
}
"""Files of which hardly a schema can be obeyed."""
CLAIMED = 0.8
"""Of the cases in the other files, how many are of schemas that can be."""


def suite() -> Path:
    """The source distribution of jsonschema, which carries the suite; `make install` fetches it."""
    given = os.environ.get("JSON_SCHEMA_SUITE")
    folder = Path(sys.prefix) / "share" / "json-schema-suite"
    found = [Path(given)] if given else sorted(folder.glob("jsonschema-*.tar.gz"))
    if not found:
        pytest.skip(f"{folder} has no source distribution of jsonschema: make install fetches it")
    return found[-1]


def groups() -> Iterator[tuple[str, dict[str, Any]]]:
    with tarfile.open(suite()) as archive:
        for member in archive:
            place = Path(member.name)
            if place.parent.match("tests/draft2020-12") and place.suffix == ".json":
                file = archive.extractfile(member)
                assert file is not None
                for group in json.load(file):
                    yield place.stem, group


def orders(value: Any) -> Iterator[Any]:
    """The value with its members in every order: answers have them in that of the schema."""
    if isinstance(value, dict):
        for keys in itertools.permutations(value) if len(value) < 5 else [tuple(value)]:
            members = (list(itertools.islice(orders(value[key]), 24)) for key in keys)
            yield from (dict(zip(keys, m, strict=True)) for m in itertools.product(*members))
    elif isinstance(value, list):
        items = (list(itertools.islice(orders(item), 24)) for item in value)
        yield from map(list, itertools.product(*items))
    else:
        yield value


def accepts(vocabulary: Any, matcher: Any, value: Any) -> bool:
    """Whether some answer is that value."""
    for same in itertools.islice(orders(value), 200):
        copy = matcher.deep_copy()
        text = json.dumps(same, ensure_ascii=False).encode(errors="surrogatepass")
        tokens = vocabulary.tokenize_bytes(text)
        if copy.try_consume_tokens(tokens) == len(tokens) and copy.is_accepting():
            return True
    return False


def compiled(vocabulary: Any, schema: Any) -> Any:
    grammar = trial.grammar_of("json_schema", json.dumps(schema), "", None)
    return trial.compiled(vocabulary, grammar)


def test_the_suite_of_draft_2020_12(vocabulary: Any) -> None:
    """Nothing invalid is ever accepted; what is valid and is not are the known cases."""
    wrong, missed, known = [], Counter[str](), Counter[str]()
    cases = Counter[str]()
    for name, group in groups():
        cases[name] += len(group["tests"])
        try:
            matcher = compiled(vocabulary, group["schema"])
        except ValueError:
            continue
        known[name] += len(group["tests"])
        for case in group["tests"]:
            accepted = accepts(vocabulary, matcher, case["data"])
            if accepted and not case["valid"]:
                wrong.append((name, group["description"], case["description"]))
            missed[name] += case["valid"] and not accepted
    assert wrong == []
    assert +missed == NOT_GENERATED
    assert cases.total() > 1200
    mostly = {name for name, count in cases.items() if known[name] < count / 3}
    assert mostly <= REFUSED
    claimed = cases.keys() - REFUSED
    assert sum(known[n] for n in claimed) > CLAIMED * sum(cases[n] for n in claimed)


def test_random_values_of_random_schemas(vocabulary: Any) -> None:
    """Of each schema, a value that is valid and others that are probably not."""
    accepted = refused = 0
    values = [value for _, value in random_schemas(200)]
    for schema, value in random_schemas(200):
        matcher = compiled(vocabulary, schema)
        validator = Draft202012Validator(schema)
        assert validator.is_valid(value)
        assert accepts(vocabulary, matcher, value), (schema, value)
        accepted += 1
        for other in values[:40]:
            if not validator.is_valid(other):
                assert not accepts(vocabulary, matcher, other), (schema, other)
                refused += 1
    assert accepted == 200
    assert refused > 2000
