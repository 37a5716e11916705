"""The check against OpenAI's schemas itself: that it is on, and that it can fail."""

from __future__ import annotations

import copy
import os
from typing import Any

import pytest

from tests.support import openai_schemas
from tests.support.client import Api

pytestmark = pytest.mark.skipif(
    not openai_schemas.available(),
    reason=f"{openai_schemas.VARIABLE} names no folder with {openai_schemas.FILE}, so no response "
    "of the API tests was compared with OpenAI's schemas",
)


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        (("choices", 0, "finish_reason"), "done"),
        (("choices", 0, "message", "role"), "user"),
        (("choices", 0, "message", "content"), 1),
        (("usage", "total_tokens"), "8"),
        (("id",), None),
        (("created",), 1.5),
    ],
)
def test_a_wrong_chat_answer_is_noticed(api: Api, path: tuple[str | int, ...], wrong: Any) -> None:
    body = api.chat().json()
    openai_schemas.check(body)
    broken = copy.deepcopy(body)
    *way, last = path
    node = broken
    for step in way:
        node = node[step]
    node[last] = wrong
    with pytest.raises(AssertionError, match="not a CreateChatCompletionResponse"):
        openai_schemas.check(broken)


@pytest.mark.parametrize("missing", ["id", "choices", "created", "model"])
def test_what_is_required_is_missed(api: Api, missing: str) -> None:
    bodies = {
        "chat": api.chat().json(),
        "text": api.complete().json(),
        "chunk": api.chat_stream().chunks[0],
    }
    for body in bodies.values():
        del body[missing]
        with pytest.raises(AssertionError, match="is a required property"):
            openai_schemas.check(body)


def test_a_wrong_error_or_model_is_noticed(api: Api) -> None:
    error = api.get("/nope").json()
    error["error"]["code"] = 404
    with pytest.raises(AssertionError, match="not a ErrorResponse"):
        openai_schemas.check(error)
    models = api.get("/v1/models").json()
    del models["data"][0]["owned_by"]
    with pytest.raises(AssertionError, match="not a ListModelsResponse"):
        openai_schemas.check(models)


def test_every_schema_is_read_from_the_named_folder() -> None:
    assert os.environ[openai_schemas.VARIABLE]
    for name in (*openai_schemas.BY_OBJECT.values(), "ErrorResponse"):
        assert openai_schemas._validator(name)
