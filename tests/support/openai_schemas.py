"""OpenAI's own schemas, against which every response of the API tests is held.

The file is OpenAI's OpenAPI document reduced to chat, completions, embeddings, models and errors.
It is not part of this repository: LLM_SERVE_TEST_DATA names the folder that has it, and without the
variable nothing is compared (tests/api/test_openai_schemas.py skips and says so).
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

VARIABLE = "LLM_SERVE_TEST_DATA"
FILE = "openai-chat-schemas.json"

BY_OBJECT = {
    "chat.completion": "CreateChatCompletionResponse",
    "chat.completion.chunk": "CreateChatCompletionStreamResponse",
    "text_completion": "CreateCompletionResponse",
    "list": "ListModelsResponse",
    "model": "Model",
}


def available() -> bool:
    folder = os.environ.get(VARIABLE)
    return folder is not None and (Path(folder) / FILE).is_file()


def check(body: Any, *, streamed: bool = False) -> None:
    """Fails unless the body is what OpenAI's schema for its kind of object says."""
    if not available() or not isinstance(body, dict):
        return
    name = "ErrorResponse" if body.get("error") else BY_OBJECT.get(body.get("object", ""))
    if name == BY_OBJECT["list"] and "usage" in body:
        # In base64 a vector is a text, of which the schema does not speak.
        numbers = all(isinstance(one["embedding"], list) for one in body["data"])
        name = "CreateEmbeddingResponse" if numbers else None
    if name is None:
        return
    if streamed and name == "CreateCompletionResponse":
        name = "StreamedCompletionResponse"
    if error := best_match(_validator(name).iter_errors(body)):
        where = "/".join(str(part) for part in error.absolute_path)
        raise AssertionError(f"not a {name}: {where or 'the body'}: {error.message[:400]}")


@cache
def _validator(name: str) -> Draft202012Validator:
    document = json.loads((Path(os.environ[VARIABLE]) / FILE).read_text())
    schemas = _without_nullable(document["components"]["schemas"])
    schemas["StreamedCompletionResponse"] = _streamed(schemas["CreateCompletionResponse"])
    return Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}
    )


def _streamed(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a text completion's chunk, where `finish_reason` may be null.

    OpenAI documents one schema for both and yet sends null until the last chunk, as every server
    does: nothing else tells a client that more is to come.
    """
    schema = json.loads(json.dumps(schema))
    reason = schema["properties"]["choices"]["items"]["properties"]["finish_reason"]
    reason["type"] = ["string", "null"]
    reason["enum"].append(None)
    return schema


def _without_nullable(node: Any) -> Any:
    """OpenAPI 3.0's `nullable: true`, which JSON Schema does not know, as a union with null."""
    if isinstance(node, list):
        return [_without_nullable(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {key: _without_nullable(value) for key, value in node.items()}
    if node.get("nullable") is True:
        del node["nullable"]
        return {"anyOf": [node, {"type": "null"}]}
    return node
