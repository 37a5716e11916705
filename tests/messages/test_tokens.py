"""`/tokenize` and `/detokenize`: what belongs together, on a backend whose token is a word."""

from __future__ import annotations

from typing import Any

import pytest

from llm_serve.api.parsing.tokens import parse_tokenize
from llm_serve.api.schemas.tokens import DetokenizeAnswer, TokenizeAnswer
from llm_serve.config import Config
from llm_serve.errors import InvalidRequest
from llm_serve.sampling import Conversation
from tests.support.answers import check
from tests.support.client import Api, refused, user

FUNCTION = {"type": "function", "function": {"name": "f"}}


def test_a_text_and_back(api: Api) -> None:
    response = api.post(
        "/tokenize", {"model": "plain", "prompt": "a b ", "return_token_strs": True}
    )
    check(TokenizeAnswer, response.content)
    body = response.json()
    assert (body["count"], body["token_strs"]) == (2, ["a ", "b "])
    back = api.post("/detokenize", {"model": "plain", "tokens": body["tokens"]})
    check(DetokenizeAnswer, back.content)
    assert back.json() == {"prompt": "a b "}
    assert api.post("/detokenize", {"model": "plain", "tokens": []}).json() == {"prompt": ""}


def test_a_long_text(api: Api) -> None:
    """It is tokenized in a thread."""
    body = api.post("/tokenize", {"model": "plain", "prompt": "word " * 20_000}).json()
    assert (body["count"], body["token_strs"]) == (20_000, None)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "prompt"),
        ({"prompt": "a", "messages": user("a")}, "prompt"),
        ({"messages": []}, "messages"),
        ({"prompt": "a" * (2**20 + 1)}, "prompt"),
        ({"prompt": "a", "tools": [FUNCTION]}, "tools"),
        ({"prompt": "a", "add_generation_prompt": False}, "add_generation_prompt"),
        ({"messages": user("a"), "add_special_tokens": True}, "add_special_tokens"),
        (
            {"messages": user("a"), "add_generation_prompt": True, "continue_final_message": True},
            "continue_final_message",
        ),
        (
            {"messages": user("a"), "chat_template_kwargs": {"tokenize": True}},
            "chat_template_kwargs",
        ),
        ({"messages": [{"role": "robot"}]}, "messages[0].role"),
        ({"prompt": "a", "zork": 1}, "zork"),
    ],
)
def test_what_is_wrong_is_named(api: Api, fields: dict[str, Any], param: str) -> None:
    response = api.post("/tokenize", {"model": "plain", **fields})
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == param


@pytest.mark.parametrize("tokens", [[-1], ["a"], [2**31], None, [1] * 131_073])
def test_wrong_tokens(api: Api, tokens: Any) -> None:
    response = api.post("/detokenize", {"model": "plain", "tokens": tokens})
    assert refused(response, InvalidRequest, response.json()["error"]["param"]).startswith("tokens")


def _conversation(**fields: Any) -> Conversation:
    config = Config.model_validate({"models": [{"id": "t", "backend": "transformers"}]})
    conversation = parse_tokenize({"messages": user("a"), **fields}, config).conversation
    assert conversation is not None
    return conversation


def test_a_chat_is_tokenized_as_it_would_be_generated() -> None:
    given = _conversation(tools=[FUNCTION], chat_template_kwargs={"a": 1})
    assert given.tools is not None
    assert given.template == {"a": 1}
    assert given.ending == "begun"
    assert _conversation(add_generation_prompt=False).ending == "none"
    assert _conversation(continue_final_message=True).ending == "continued"
