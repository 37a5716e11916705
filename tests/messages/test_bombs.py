"""Bodies that are made to keep the ingress busy; see `tests.api.test_bombs`."""

from __future__ import annotations

import httpx
import pytest

from llm_serve.api.app import create_app
from llm_serve.config import Config
from tests.api.test_bombs import LONGEST_S, filled, keys, watched_loop
from tests.support.client import COUNT, MESSAGES, check
from tests.support.inprocess import echo
from tests.support.local_gateway import LocalGateway

TEXT = '{"type":"text","text":"a"}'
RESULT = f'{{"type":"tool_result","tool_use_id":"t","is_error":true,"content":[{TEXT}]}}'
TURNS = '{"role":"user","content":[%s]}'
TOOL = '{"name":"t%d","input_schema":{"properties":{"a":{}}},"defer_loading":true}'
LONG = f'{{"type":"text","text":"{"a" * 1000}"}}'


def _many(unit: str, turns: int, each: int, **more: str) -> bytes:
    turn = TURNS % ",".join([unit] * each)
    rest = "".join(f',"{name}":{value}' for name, value in more.items())
    return f'{{"max_tokens":1,"messages":[{",".join([turn] * turns)}]{rest}}}'.encode()


BOMBS = {
    "blocks": _many(TEXT, 8, 1000),
    "long blocks": _many(LONG, 7, 1000),
    "results": _many(RESULT, 8, 500),
    "turns": _many(TEXT, 2000, 2),
    "wrong blocks": _many("0", 8, 1000),
    "unknown members": _many(f"{{{keys(60_000, 'k')}}}", 1, 1),
    "members": ("{" + keys(65_000, "k") + "}").encode(),
    "tools": _many(TEXT, 1, 1, tools=f"[{','.join(TOOL % n for n in range(1000))}]"),
    "a schema": _many(TEXT, 1, 1, tools=f'[{{"name":"a","input_schema":{{{keys(65_000, "k")}}}}}]'),
    "system": filled(f'{{"messages":[{TURNS % TEXT}],"max_tokens":1,"system":"', "a, ", '"}'),
    "signature": filled(
        '{"max_tokens":1,"messages":[{"role":"assistant","content":[{"type":"thinking","thinking":'
        '"","signature":"llm-serve:',
        "YWFh",
        '"}]},{"role":"user","content":"a"}]}',
    ),
}


@pytest.mark.parametrize("beta", [False, True], ids=["", "beta"])
@pytest.mark.parametrize("name", BOMBS)
async def test_no_body_stops_the_loop(name: str, beta: bool) -> None:
    path = COUNT if beta else MESSAGES
    gateway = LocalGateway(Config.model_validate({"models": [echo(context_length=16)]}))
    await gateway.start()
    transport = httpx.ASGITransport(app=create_app(gateway.config, gateway))
    headers = {"content-type": "application/json"} | ({"anthropic-beta": "x"} if beta else {})
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        async with watched_loop() as longest:
            response = check(await client.post(path, content=BOMBS[name], headers=headers))
        assert response.status_code in (200, 400)
        assert len(response.content) < 1000
    assert longest[0] < LONGEST_S
