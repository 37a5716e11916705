"""`llm-serve check` on files that nobody would write: it always says what is wrong, and where."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deployments.machine.config_file import read_serve_file
from deployments.schema import IMPORT_PATH, POLICY, ServeFile
from llm_serve.config.yaml_file import MOST, BadFile
from tests.cli.test_check import GOOD

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

Place = tuple[int | str, ...]


def _nested(first: str, inside: str) -> str:
    """Nine names for what has nine names for ...: some 43 million values in nine lines."""
    nine = (f"a{i}: &a{i} {inside % ', '.join([f'*a{i - 1}'] * 9)}" for i in range(1, 9))
    return "\n".join((f"a0: &a0 {first}", *nine))


LAUGHS = _nested("[x, x]", "[%s]")
MERGED = _nested("{k: 1}", "{<<: [%s]}")

FOUND = [
    ("a: {{ model }}", 1, "a key must be a word, not a list or a map; put quotes around {{"),
    ("a: 1\nb:\n  ? [x]\n  : 1", 3, "a key must be a word"),
    ("a: 1\nb: &x [*x]", 2, "holds itself by an alias; write out what is meant"),
    ("a: &x {b: {c: *x}}", 1, "holds itself by an alias"),
    (LAUGHS, 1, f"more than {MOST} values once every alias is written out"),
    (MERGED, 1, f"more than {MOST} values once every alias is written out"),
    ("\n" + "[" * 5000, 2, "nested deeper than 64 here; take levels out"),
    ("a:\n  since: 2026-13-45", 2, "cannot be read as timestamp; put it in quotes"),
    ("a:\n  much: !!int lots", 2, "cannot be read as int; put it in quotes"),
    ("a: 1\nb: \x00", 2, r"the character '\x00'; take it out"),
]


@pytest.mark.parametrize(("text", "line", "says"), FOUND, ids=[f[2] for f in FOUND])
def test_yaml_that_no_walk_would_survive(tmp_path: Path, text: str, line: int, says: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(BadFile) as caught:
        read_serve_file(file)
    (problem,) = caught.value.problems
    assert problem.line == line
    assert says in problem.message


def test_dates_are_dates_whatever_else_was_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """lm-format-enforcer, which vLLM imports, changes PyYAML's own loader for the whole process."""
    constructors = yaml.SafeLoader.yaml_constructors
    text = constructors["tag:yaml.org,2002:str"]
    monkeypatch.setitem(constructors, "tag:yaml.org,2002:timestamp", text)
    file = tmp_path / "bad.yaml"
    file.write_text("a:\n  since: 2026-13-45")
    with pytest.raises(BadFile, match="cannot be read as timestamp"):
        read_serve_file(file)


def test_aliases_that_make_sense_are_used(tmp_path: Path) -> None:
    text = GOOD.replace("engine:\n", "engine: &slow\n")
    text = text.replace("max_queued: 4\n", "max_queued: 4\n          engine: {token_s: &t 0.5}\n")
    file = tmp_path / "good.yaml"
    file.write_text(text.replace("token_s: 0.1", "token_s: *t"))
    (first, second) = read_serve_file(file).config.models
    assert first.engine == second.engine


def _places(value: Any, at: Place = ()) -> Iterator[Place]:
    yield at
    items = value.items() if isinstance(value, dict) else ()
    for key, child in enumerate(value) if isinstance(value, list) else items:
        yield from _places(child, (*at, key))


FULL = yaml.safe_load(GOOD)
FULL["logging_config"] = {"encoding": "JSON", "log_level": "INFO"}
FULL["proxy_location"] = "EveryNode"
FULL["grpc_options"] = {"port": 9000}
FULL["applications"][0]["runtime_env"] = {"env_vars": {"A": "b"}}
FULL["applications"][0]["deployments"] = [
    {"name": "Ingress", "autoscaling_config": {"max_replicas": 2}}
]
FULL["applications"][0]["args"]["models"][0] |= {
    "source": "./folder",
    "env": {"A": "b"},
    "defaults": {"temperature": 0.5},
    "num_gpus": 1,
}
FULL["applications"][0]["args"]["models"].append(
    {
        "id": "many",
        "backend": "vllm",
        "source": "hub:org/name",
        "engine": {"max_model_len": 512, "hf_overrides": {"a": 1}},
        "adapters": [{"id": "lora", "source": "./folder"}],
    }
)
FULL["applications"][0]["args"]["server"] |= {"api_key_file": None, "cors_origins": ["*"]}
FULL["applications"][0]["args"]["residency"] = {"max_wait_s": 60, "min_residency_s": 3}
FULL["applications"][0]["args"]["cold_start"] = {"mode": "wait"}
PLACES = list(_places(FULL))


def test_the_file_that_is_fuzzed_is_a_good_one(tmp_path: Path) -> None:
    file = tmp_path / "good.yaml"
    file.write_text(yaml.dump(FULL))
    assert len(read_serve_file(file).config.models) == 3


words = st.sampled_from(
    (
        *(
            "",
            "x",
            "some.string",
            "~nobody/x",
            "~",
            "./x",
            "hub:a/b",
            "wheel:x",
            "a\x00b",
            "\ud800",
        ),
        *("/", POLICY, IMPORT_PATH, "vllm", "echo", "wait", "null", "1", "2026-01-01", "a:b", "\n"),
    )
)
scalars = st.one_of(
    st.none(), st.booleans(), words, st.text(max_size=8), st.integers(), st.floats(), st.dates(),
    st.sampled_from([10**400, -1, 0, 2**63, 70000]), st.binary(max_size=4),
)  # fmt: skip
keys = st.one_of(
    words, st.none(), st.booleans(), st.integers(), st.dates(), st.floats(allow_nan=False),
    st.sampled_from([str(step) for place in PLACES for step in place]),
)  # fmt: skip
nodes = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=8,
)


def _inside(tree: Any, place: Place) -> Any:
    for step in place:
        tree = tree[step]
    return tree


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(place=st.sampled_from(PLACES), value=nodes, extra=st.none() | keys)
def test_anything_anywhere_is_read_or_refused_with_its_line(
    tmp_path_factory: pytest.TempPathFactory, place: Place, value: Any, extra: Any
) -> None:
    # In place of what is there, or beside what it holds.
    tree = copy.deepcopy(FULL)
    beside = _inside(tree, place)
    if extra is not None and isinstance(beside, dict):
        beside[extra] = value
    elif place:
        _inside(tree, place[:-1])[place[-1]] = value
    else:
        tree = value
    file = tmp_path_factory.mktemp("fuzz") / "serve.yaml"
    text = yaml.dump(tree, allow_unicode=False)
    file.write_text(text, encoding="utf-8")
    found = _read(file)
    if isinstance(found, BadFile):
        assert found.problems
        for problem in found.problems:
            assert 1 <= problem.line <= text.count("\n") + 1
            assert problem.message.strip()


def _read(file: Path) -> ServeFile | BadFile:
    try:
        return read_serve_file(file)
    except BadFile as error:
        return error
