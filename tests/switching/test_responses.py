"""Responses where models come and go, and where their store dies: conversations go on, or it is
said honestly that they are gone."""

from __future__ import annotations

from typing import Any

import httpx
import psutil
import pytest

from llm_serve.errors import NoPreviousResponse, NoResponse
from tests.support.client import RESPONSES, Api, refused
from tests.support.cluster import Cluster
from tests.support.openai_events import parse_events, text_of
from tests.support.waiting import until
from tests.switching.conftest import A, B, Serve, slow

pytestmark = pytest.mark.ray
WAIT = {"prefer": "wait=60"}


def _turn(api: Api, model: str, text: str, **fields: Any) -> dict[str, Any]:
    """A turn that waits for its model; streamed, since a load is told in comments then."""
    body = {"model": model, "input": text, "stream": True, **fields}
    response = api.post(RESPONSES, body, headers=WAIT)
    assert response.status_code == 200, response.text
    last: dict[str, Any] = parse_events(response.content, [])[-1]["response"]
    return last


def _said(response: dict[str, Any]) -> str:
    return "".join(text_of(item) for item in response["output"])


def test_a_conversation_goes_on_across_a_switch_of_models(serve: Serve) -> None:
    """Each model says its n-th thing in turn n, and has not seen the turns before."""
    models = (
        slow(A, answers=["a1", "a2", "a3"]),
        slow(B, answers=["b1", "b2", "b3"]),
    )
    api = serve("conversation", *models)
    first = _turn(api, A, "one")
    second = _turn(api, B, "two", previous_response_id=first["id"])
    third = _turn(api, A, "three", previous_response_id=second["id"])
    assert [_said(one) for one in (first, second, third)] == ["a1", "b2", "a3"]
    branch = _turn(api, A, "two, otherwise", previous_response_id=first["id"])
    assert _said(branch) == "a2"
    assert api.get(f"{RESPONSES}/{second['id']}").json() == second


def test_what_was_stored_is_lost_with_the_director(api: Api, switching: Cluster) -> None:
    response = _turn(api, A, "one two")
    path = f"{RESPONSES}/{response['id']}"
    assert api.get(path).json() == response
    directors = switching.processes("ray::Director")
    for director in directors:
        director.kill()
    assert not psutil.wait_procs(directors, timeout=10)[1]

    def answered() -> httpx.Response | None:
        """By the next director; while it starts, that is a 503."""
        response = api.get(path)
        return None if response.status_code == 503 else response

    refused(until(answered, "somebody knows", seconds=30), NoResponse, "response_id")
    asked = {"model": A, "previous_response_id": response["id"]}
    refused(api.respond("go on", **asked), NoPreviousResponse, "previous_response_id")
    again = _turn(api, A, "one two")
    until(lambda: api.get(f"{RESPONSES}/{again['id']}").json() == again, "it is stored anew")
