"""The error hierarchy: what its docstring draws, what it is, and how it travels."""

from __future__ import annotations

import pickle
import re

import pytest

from llm_serve import errors
from llm_serve.api.schemas import openapi
from llm_serve.errors import LoadFailed, ServeError
from llm_serve.wire import error_body
from tests.support.errors import every_error

_LINE = re.compile(r"^    (?P<branch>[ │├└─]*)(?P<name>\w+)(?: +(?P<status>\d{3}) +(?P<code>\w+))?")


def _drawn() -> dict[str, tuple[str | None, int | None, str | None, bool]]:
    """Each class of the docstring's tree: its parent, status, code, and whether it may wait."""
    assert errors.__doc__ is not None
    tree: dict[str, tuple[str | None, int | None, str | None, bool]] = {}
    path: list[str] = []
    block = errors.__doc__.split("\n\n")[1]
    for line in block.splitlines():
        found = _LINE.match(line)
        assert found, line
        depth = len(found["branch"]) // 4
        path = [*path[:depth], found["name"]]
        status = int(found["status"]) if found["status"] else None
        parent = path[-2] if depth else None
        tree[found["name"]] = (parent, status, found["code"], line.endswith("Retry-After"))
    return tree


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    tree = _drawn()
    assert tree.pop("ServeError") == (None, None, None, False)
    assert list(tree) == [kind.__name__ for kind in every_error()]
    for kind in every_error():
        (parent,) = kind.__bases__
        assert tree[kind.__name__][:3] == (parent.__name__, kind.status, kind.code)
        assert tree[kind.__name__][3] == (kind.status in (429, 503))


def test_every_code_is_one_classes_own() -> None:
    """Of one status: a model may be unknown in a body and in a path."""
    codes = [(k.status, k.code) for k in every_error() if k.code != "invalid_request"]
    assert len(codes) == len(set(codes))
    for kind in every_error():
        assert re.fullmatch(r"[a-z_]+", kind.code)
        assert re.fullmatch(r"[a-z_]+", kind.type)
        assert kind.__doc__


def test_every_status_of_an_error_is_described_in_openapi() -> None:
    described = {
        int(status)
        for operations in openapi.document()["paths"].values()
        for operation in operations.values()
        for status in operation["responses"]
    }
    statuses = {kind.status for kind in every_error()} - {405}  # no operation: the method is wrong
    assert statuses <= described


@pytest.mark.parametrize("kind", [ServeError, *every_error()], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_survives_pickling(kind: type[ServeError], protocol: int) -> None:
    """As Ray sends it between processes."""
    error = kind("Ein Satz — 一句话.", param="messages[0].role", retry_after_s=7)
    copy = pickle.loads(pickle.dumps(error, protocol))
    assert type(copy) is kind
    assert (copy.message, copy.param, copy.retry_after_s) == (
        error.message,
        "messages[0].role",
        7,
    )
    assert str(copy) == str(error) == error.message
    assert error_body(copy) == error_body(error)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("The model folder /srv/models/a b does not", "The model folder (path) b does not"),
        ("No such file: '/srv/my models/x.bin' here", "No such file: (path) here"),
        (
            'broken:/tmp/x, "~/m/y z", ../up and C:\\w\\x',
            "broken:(path), (path), (path) and (path)",
        ),
        ("OSError: ~joe/model; file:///etc/x; (/one)", "OSError: (path); (path); ((path))"),
        ("see https://hub.example/a/b for org/name", "see https://hub.example/a/b for org/name"),
        ("12 tokens/s and/or 3 / 4 at 1.5/2", "12 tokens/s and/or 3 / 4 at 1.5/2"),
    ],
)
def test_a_failed_load_shows_no_path_and_keeps_it_for_the_log(said: str, shown: str) -> None:
    error = LoadFailed(said)
    assert (error.message, error.detail) == (shown, said)
    sent = pickle.loads(pickle.dumps(error))
    assert (sent.message, sent.detail) == (shown, shown)
    assert shown in str(error_body(error)["error"]["message"])
