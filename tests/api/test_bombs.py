"""Bodies made to keep the server busy: refused at once, and the other streams go on meanwhile."""

from __future__ import annotations

import asyncio
import gc
import json
import pickle
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from pydantic_core import from_json

from llm_serve.api.app import create_app
from llm_serve.api.parsing.by_engine import parse_for_engine
from llm_serve.api.parsing.outline import MAX_MARKS, MAX_OBJECTS, Outline
from llm_serve.api.schemas.values import MAX_ENTRIES, MAX_MESSAGES
from llm_serve.config import Config
from llm_serve.errors import InvalidRequest, RequestTimeout, UnsupportedParameter
from llm_serve.generation.request import GenerationRequest
from llm_serve.sampling import Conversation, Guide, Sampling
from tests.support.client import CHAT, RESPONSES, TEXT, Api, check, refused, user
from tests.support.inprocess import echo, serving
from tests.support.local_gateway import LocalGateway

SIZE = 8 * 1024 * 1024 - 1024
LONGEST_S = 0.06
"""Of the loop's thread, in processor time: three times what `outline` promises."""


def filled(head: str, unit: str, tail: str, size: int = SIZE) -> bytes:
    return (head + unit * ((size - len(head) - len(tail)) // len(unit)) + tail).encode()


def messages(unit: str, first: str, size: int = SIZE) -> bytes:
    return filled('{"messages":[' + first, "," + unit, "]}", size)


def keys(count: int, name: str, value: str = "0") -> str:
    return ",".join(f'"{name}{n}":{value}' for n in range(count))


SAID = '{"role":"user","content":"a"}'
PART = '{"type":"text","text":"a"}'
CALLS = '"role":"assistant","tool_calls":'
CALLED = '"id":"c","type":"function","function":{"name":"f","arguments":'
FUNCTION = '{"type":"function","function":{"name":"f","parameters":{%s}}}'
CHAT_BOMBS = {
    "zeros": messages("0", "0"),
    "objects": messages("{}", "{}"),
    "arrays": messages("[]", "[]"),
    "texts": messages('""', '""'),
    "turns": messages(SAID, SAID),
    "opening": filled('{"messages":', "[", ""),
    "opening objects": filled('{"messages":', '{"a":', ""),
    "digits": filled('{"seed":', "1", "}"),
    "long numbers": messages("9" * 4000, "0"),
    "spaces": filled('{"messages":[', " ", "]}"),
    "the same key": filled('{"a":0', ',"a":0', "}"),
    "keys": ("{" + keys(600_000, "k") + "}").encode(),
    "escapes": filled('{"messages":[{"role":"user","content":"', "\\u00e9", '"}]}'),
    "escaped quotes": filled('{"messages":[{"role":"user","content":"', '\\"', '"}]}'),
    "text": filled('{"messages":[{"role":"user","content":"', "a, ", '"}]}'),
    # Within what is parsed, so that the validator meets them.
    "few zeros": filled('{"messages":[0', ",0", "]}", 2 * MAX_MARKS - 100),
    "few turns": filled(f'{{"messages":[{SAID}', f",{SAID}", "]}", 2000 * 30),
    "few parts": messages(f'{{"role":"user","content":[{PART},{PART}]}}', SAID, 150_000),
    "few wrong parts": filled('{"messages":[{"role":"user","content":[0', ",0", "]}]}", 290_000),
    "unknown fields": ("{" + keys(65_000, "k") + "}").encode(),
    "unknown in a turn": f'{{"messages":[{{{keys(65_000, "k")}}}]}}'.encode(),
    "bias": f'{{"messages":[{SAID}],"logit_bias":{{{keys(65_000, "")}}}}}'.encode(),
    "metadata": f'{{"messages":[{SAID}],"metadata":{{{keys(65_000, "")}}}}}'.encode(),
    "tools": filled(f'{{"messages":[{SAID}],"tools":[{{}}', ",{}", "]}", 8000 * 3),
    "calls": filled(f'{{"messages":[{{{CALLS}[{{}}', ",{}", "]}]}", 8000 * 3),
    "parameters": f'{{"messages":[{SAID}],"tools":[{FUNCTION % keys(65_000, "k")}]}}'.encode(),
    "arguments": filled(f'{{"messages":[{{{CALLS}[{{{CALLED}"', "0,", '"}}]}]}'),
    "a schema as text": filled(f'{{"messages":[{SAID}],"guided_json":"', "0,", '"}'),
    "stops": filled(f'{{"messages":[{SAID}],"stop":["x"', ',"x"', "]}", 290_000),
}
TEXT_BOMBS = {
    "token ids": filled('{"prompt":[1', ",1", "]}", 2 * 131_000),
    "wrong token ids": filled('{"prompt":[-1', ",-1", "]}", 3 * 131_000),
    "prompts": filled('{"prompt":["a"', ',"a"', "]}", 290_000),
    "lists": filled('{"prompt":[[1]', ",[1]", "]}", 290_000),
}


ITEM = '{"role":"user","content":[{"type":"input_text","text":"a"}]}'
CALLED = '{"type":"function_call","call_id":"c","name":"f","arguments":"{}"}'
RESULT = '{"type":"function_call_output","call_id":"c","output":"x"}'
TOOL = '{"type":"function","name":"f","parameters":{"properties":{"a":{}}}}'
RESPONSE_BOMBS = {
    "zeros": filled('{"input":[0', ",0", "]}", 2 * MAX_MARKS - 100),
    "objects": filled('{"input":[{}', ",{}", "]}", 3 * 8000),
    "items": filled(f'{{"input":[{ITEM}', f",{ITEM}", "]}", 2000 * len(ITEM)),
    "calls": filled(f'{{"input":[{CALLED}', f",{RESULT}", "]}", 2000 * len(RESULT)),
    "references": filled('{"input":[{"id":"msg_a_0"}', ',{"id":"msg_b_1"}', "]}", 2000 * 17),
    "parts": filled('{"input":[{"role":"user","content":[0', ",0", "]}]}", 290_000),
    "tools": filled(f'{{"input":"a","tools":[{TOOL}', f",{TOOL}", "]}", 1000 * len(TOOL)),
    "a long instruction": filled('{"input":"a","instructions":"', "a, ", '"}'),
    "unknown in an item": f'{{"input":[{{{keys(65_000, "k")}}}]}}'.encode(),
    "metadata": f'{{"input":"a","metadata":{{{keys(65_000, "")}}}}}'.encode(),
    "a schema": ('{"input":"a","text":{"format":{"type":"json_schema","name":"a","schema":{'
                 + keys(65_000, "k") + "}}}}").encode(),
}  # fmt: skip


@asynccontextmanager
async def watched_loop() -> AsyncIterator[list[float]]:
    """The list gets the processor seconds that the longest turn of the loop took."""
    longest = [0.0]

    async def watch() -> None:
        while True:
            began = time.thread_time()
            await asyncio.sleep(0)
            longest[0] = max(longest[0], time.thread_time() - began)

    gc.collect()
    gc.freeze()  # what the other tests have left is not collected in this time
    task = asyncio.create_task(watch())
    await asyncio.sleep(0)
    try:
        yield longest
    finally:
        task.cancel()
        gc.unfreeze()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        *(pytest.param(CHAT, body, id=name) for name, body in CHAT_BOMBS.items()),
        *(pytest.param(TEXT, body, id=name) for name, body in TEXT_BOMBS.items()),
        *(pytest.param(RESPONSES, body, id=name) for name, body in RESPONSE_BOMBS.items()),
    ],
)
async def test_no_body_stops_the_loop(path: str, body: bytes) -> None:
    config = Config.model_validate({"models": [echo(context_length=16)]})
    gateway = LocalGateway(config)
    await gateway.start()
    transport = httpx.ASGITransport(app=create_app(config, gateway))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        async with watched_loop() as longest:
            headers = {"content-type": "application/json"}
            response = check(await client.post(path, content=body, headers=headers))
        assert response.status_code in (200, 400)
        assert response.status_code == 200 or len(response.content) < 1000
    assert longest[0] < LONGEST_S


def test_what_is_counted_is_what_the_parser_meets() -> None:
    """Random JSON in random pieces: strings, escapes and all."""
    random.seed(7)
    texts = ["", "a", '"', "\\", '\\"', ',:[{"', "\\\\", "\n,", "é\\", "}"]

    def value(depth: int) -> Any:
        kind = random.randrange(4 if depth else 2)
        if kind == 2:
            return [value(depth - 1) for _ in range(random.randrange(4))]
        if kind == 3:
            return {random.choice(texts): value(depth - 1) for _ in range(random.randrange(4))}
        return random.choice([random.choice(texts), 7])

    def objects(of: Any) -> int:
        inner = of.values() if isinstance(of, dict) else of if isinstance(of, list) else ()
        return isinstance(of, dict) + sum(map(objects, inner))

    for _ in range(500):
        whole = value(4)
        body = json.dumps(whole, ensure_ascii=random.random() < 0.5).encode()
        assert from_json(body) == whole
        outline, at = Outline(), 0
        while at < len(body):
            step = random.randrange(1, 6)
            outline.feed(body[at : at + step])
            at += step
        assert outline._objects == objects(whole), body


def test_what_a_person_may_send_is_not_counted_as_a_bomb(api: Api) -> None:
    """Two MiB of source text with more commas than a body may have, and a long prompt in ids."""
    assert api.complete(list(range(100_000))).status_code == 400  # longer than the context
    with serving(echo(context_length=1_048_576)) as roomy:
        assert roomy.chat('{"a": [1, 2, "b\\"]},' * 100_000, max_tokens=1).status_code == 200
        assert roomy.complete([1] * 131_072, max_tokens=1).status_code == 200


def test_too_many_objects_are_refused_before_the_rest_is_read(api: Api) -> None:
    sent: list[int] = []

    def parts() -> Any:
        for part in range(1000):
            sent.append(part)
            yield b'{"a":[' + b"{}," * 1000

    headers = {"content-type": "application/json"}
    response = api.request("POST", CHAT, content=parts(), headers=headers)
    assert str(MAX_OBJECTS) in refused(response, InvalidRequest)
    assert len(sent) < 20


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": user("a") * (MAX_MESSAGES + 1)}, "messages"),
        ({"messages": [0, 1, 2]}, "messages[0]"),
        ({"messages": [user("a")[0] | {"content": [{}] * 5000}]}, "messages[0].content[0].type"),
        ({"logit_bias": {str(n): 1 for n in range(MAX_ENTRIES + 1)}}, "logit_bias"),
        ({"metadata": {str(n): "1" for n in range(MAX_ENTRIES + 1)}}, "metadata"),
        ({"k0": 0, "k1": 0} | {f"x{n}": 0 for n in range(100)}, "k0"),
    ],
    ids=["messages", "first", "parts", "bias", "metadata", "unknown"],
)
def test_the_first_error_is_the_one_that_is_told(
    api: Api, fields: dict[str, Any], param: str
) -> None:
    refused(api.chat(**fields), InvalidRequest, param)


def test_a_null_member_is_still_absent_beside_an_unknown_one(api: Api) -> None:
    many = {f"x{n}": None for n in range(100)}
    assert api.chat(**many, stop=None).status_code == 200


def _engine_request(path: str, **fields: Any) -> GenerationRequest:
    config = Config.model_validate({"models": [{"id": "v", "backend": "vllm"}]})
    need = {"/v1/responses": "responses", "/v1/embeddings": "embeddings"}.get(path, "tokenize")
    return parse_for_engine(path, need)(fields, config)


@pytest.mark.parametrize("path", ["/v1/embeddings", "/tokenize", "/detokenize"])
def test_a_stream_is_refused_where_there_is_none(path: str) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        _engine_request(path, input="a", stream=True)
    assert caught.value.param == "stream"
    assert _engine_request(path, input="a", stream=False).stream is False
    assert _engine_request("/v1/responses", input="a", stream=True).stream is True


def test_lists_that_the_engine_would_check_have_an_end() -> None:
    for long in ([0] * 5000, ["a"] * 5000, [{"content": [0] * 5000}], {"a": [[[0] * 5000]]}):
        with pytest.raises(InvalidRequest) as caught:
            _engine_request("/v1/responses", input=long)
        assert caught.value.param == "input"
    tokens = [[7] * 5000] * 3
    assert from_json(_engine_request("/v1/embeddings", input=tokens).body)["input"] == tokens
    with pytest.raises(InvalidRequest):
        _engine_request("/v1/embeddings", input=["a"] * 5000)


@pytest.mark.parametrize(
    "fields",
    [
        {"conversation": Conversation(({"role": "user", "content": "\U0001f600" * 300_000},))},
        {"prompts": ((2**31,) * 300_000,)},
        {"prompts": ("a" * 3000,) * 100},
        {"body": b"a" * 300_000},
        {"sampling": Sampling(logit_bias=((2**31, 0.5),) * 300_000)},
        {"sampling": Sampling(stop=("a" * 300_000,))},
        {"sampling": Sampling(guide=Guide("json_schema", "a" * 300_000))},
    ],
    ids=lambda fields: "-".join(fields),
)
def test_the_size_of_a_job_counts_everything_in_bulk(fields: dict[str, Any]) -> None:
    """What is above 256 Ki goes by reference; by value Ray's messages end at 4 MiB."""
    whole = GenerationRequest(
        **{"id": "x", "kind": "chat", "model": "m", "created": 0, "sampling": Sampling()} | fields
    )
    assert whole.size > 256 * 1024
    assert len(pickle.dumps(whole)) < 16 * whole.size


def test_a_body_that_comes_too_slowly_is_a_408() -> None:
    with serving(body_timeout_s=0.2) as api:

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            await app(scope, never, send)

        async def never() -> Any:
            if not begun:
                begun.append(True)
                return {"type": "http.request", "body": b'{"messages":', "more_body": True}
            await asyncio.sleep(60)
            raise AssertionError("nobody gave the body up")

        begun: list[bool] = []
        app = create_app(api.gateway.config, api.gateway)
        transport = httpx.ASGITransport(app=slow)

        async def post() -> httpx.Response:
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.post(CHAT, headers={"content-type": "application/json"})

        response = check(asyncio.run_coroutine_threadsafe(post(), api.loop).result(10))
        assert "server.body_timeout_s" in refused(response, RequestTimeout)
        assert response.headers["connection"] == "close"
