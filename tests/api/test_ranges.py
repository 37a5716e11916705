"""Section 3 of the guide: each field at, inside and past the border of its range."""

from __future__ import annotations

from typing import Any

import pytest

from llm_serve.errors import InvalidRequest, UnknownModel
from tests.support.client import CHAT, TEXT, Api, refused, user

ACCEPTED = [
    *[("temperature", v) for v in (0, 0.0, 5e-324, 0.7, 1, 1.999999, 2, 2.0)],
    *[("top_p", v) for v in (5e-324, 0.000001, 0.5, 0.999, 1, 1.0)],
    *[("max_tokens", v) for v in (1, 2, 4096, 8191, 8192)],
    *[("max_completion_tokens", v) for v in (1, 2, 4096, 8191, 8192)],
    *[("stream", v) for v in (True, False)],
    *[("model", v) for v in ("echo/a", "echo/b")],
]
REFUSED = [
    *[("temperature", v) for v in (-5e-324, -0.1, -1, 2.0000001, 3, 1e300)],
    *[("top_p", v) for v in (0, 0.0, -0.0, -0.5, 1.0000001, 2, 1e300)],
    *[("max_tokens", v) for v in (0, -1, 8193, 10**30, 1.5, 16.0)],
    *[("max_completion_tokens", v) for v in (0, -1, 8193, 10**30, 1.5, 16.0)],
]
WRONG_TYPE: list[tuple[str, Any]] = [
    (field, value)
    for field in ("temperature", "top_p", "max_tokens", "max_completion_tokens")
    for value in ("1", "", True, False, [1], {"a": 1})
]
WRONG_TYPE += [("stream", v) for v in ("true", 1, 0, [], {})]
WRONG_TYPE += [("model", v) for v in (1, True, ["echo/a"], {"id": "echo/a"})]


@pytest.mark.parametrize(("field", "value"), ACCEPTED)
def test_inside_its_range_a_field_is_accepted(api: Api, field: str, value: Any) -> None:
    assert api.chat(**{field: value}).status_code == 200


@pytest.mark.parametrize(("field", "value"), [*REFUSED, *WRONG_TYPE])
def test_outside_its_range_a_field_is_refused_by_name(api: Api, field: str, value: Any) -> None:
    message = refused(api.chat(**{field: value}), InvalidRequest, field)
    assert message.startswith(f"{field}: ")
    if field != "max_completion_tokens":
        refused(api.complete(**{field: value}), InvalidRequest, field)


@pytest.mark.parametrize(
    ("field", "past", "border"),
    [("temperature", 2.1, "2"), ("top_p", 0, "0"), ("max_tokens", 8193, "8192")],
)
def test_the_message_says_where_the_border_is(
    api: Api, field: str, past: float, border: str
) -> None:
    message = refused(api.chat(**{field: past}), InvalidRequest, field)
    assert border in message.replace(field, "")


@pytest.mark.parametrize("name", ["NaN", "Infinity", "-Infinity", "1e400"])
@pytest.mark.parametrize("field", ["temperature", "top_p", "max_tokens", "presence_penalty"])
def test_what_is_no_finite_number_is_refused(api: Api, field: str, name: str) -> None:
    body = f'{{"messages": [{{"role": "user", "content": "hi"}}], "{field}": {name}}}'
    response = api.post(CHAT, body.encode())
    assert response.status_code == 400
    assert response.json()["error"]["param"] in (field, None)


@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant"])
def test_roles_of_text_are_accepted(api: Api, role: str) -> None:
    body = {"messages": [{"role": role, "content": "a"}, *user("b")]}
    assert api.post(CHAT, body).status_code == 200


@pytest.mark.parametrize("role", ["function", "User", "", " user", 1, True])
def test_any_other_role_is_refused(api: Api, role: Any) -> None:
    response = api.post(CHAT, {"messages": [*user("a"), {"role": role, "content": "b"}]})
    message = refused(response, InvalidRequest, "messages[1].role")
    assert "'system', 'developer', 'user', 'assistant' or 'tool'" in message


def test_max_completion_tokens_takes_precedence(api: Api) -> None:
    words = "one two three four five six"
    for first, second, expected in ((2, 5, 5), (5, 2, 2), (None, 3, 3), (3, None, 3)):
        answer = api.chat(words, max_tokens=first, max_completion_tokens=second).json()
        assert answer["usage"]["completion_tokens"] == expected
        assert answer["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("path", [CHAT, TEXT])
@pytest.mark.parametrize("model", ["echo/A", "echo/a ", "", "a", "../echo/a", "x" * 5000])
def test_an_unknown_model_is_refused_with_those_that_are_served(
    api: Api, path: str, model: str
) -> None:
    body = {"model": model, "messages": user("a")} if path == CHAT else {"model": model}
    body |= {} if path == CHAT else {"prompt": "a"}
    message = refused(api.post(path, body), UnknownModel, "model")
    assert "echo/a, echo/b" in message
    assert len(message) < 400


def test_a_request_that_names_no_model_gets_the_first(api: Api) -> None:
    assert api.chat().json()["model"] == "echo/a"
    assert api.chat(model="echo/b").json()["model"] == "echo/b"
