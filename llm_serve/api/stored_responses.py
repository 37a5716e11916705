"""The routes of `/v1/responses`: a conversation that goes on, and what is stored of it.

A stored response is seen by the key that made it and by no other; where no keys are asked for, by
everybody who knows its id. The key itself is not stored, but its hash.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

from pydantic_core import from_json, to_json
from starlette.requests import Request
from starlette.responses import Response

from llm_serve.api.gateway import Gateway
from llm_serve.api.hold_policy import hold_for
from llm_serve.api.middleware import sent_key
from llm_serve.api.parsing.body import read_body
from llm_serve.api.parsing.parse import read_object
from llm_serve.api.parsing.responses import Asked, check_response, response_job
from llm_serve.api.response_store import StoredResponse
from llm_serve.api.responses import GenerationResponse, Keep, json_response, path_of
from llm_serve.config import Config
from llm_serve.errors import (
    InvalidRequest,
    NoPreviousResponse,
    NoResponse,
    UnsupportedParameter,
)
from llm_serve.generation.response_items import response_of

_GONE = "it was made without store, deleted, forgotten for want of room, or lost in a restart"


class ResponseRoutes:
    """The endpoints. `keyed` where the server asks for keys."""

    def __init__(self, config: Config, gateway: Gateway, keyed: bool) -> None:
        self._config = config
        self._gateway = gateway
        self._keyed = keyed

    async def create(self, request: Request) -> Response:
        body = await read_body(request, self._config.server)
        fields = read_object(body)
        await asyncio.sleep(0)  # others' turn
        asked = check_response(fields, self._config)
        owner = self._owner(request)
        earlier, referred = await self._recalled(asked, owner)
        job = response_job(asked, earlier, referred)
        keep: Keep | None = None
        if asked.body.store and self._config.server.response_store_bytes:
            items = [_resolved(item, referred) for item in asked.raw]
            keep = self._keeper(job.id, owner, items, asked.body.previous_response_id)
        hold = hold_for(request.headers, self._config.cold_start, path_of(request.scope))
        timeout_s = self._config.server.inference_timeout_s
        return GenerationResponse(self._gateway, job, hold, timeout_s, keep)

    async def stored(self, request: Request) -> Response:
        """GET and DELETE of one response."""
        response_id = request.path_params["response_id"]
        owner = self._owner(request)
        if request.method == "DELETE":
            if not await self._gateway.responses.forget(owner, response_id):
                raise _no_response(response_id)
            return json_response({"id": response_id, "object": "response", "deleted": True})
        if request.query_params.get("stream", "false").lower() not in ("false", "0"):
            raise UnsupportedParameter(
                "stream: a stored response is not streamed again; leave it out.", param="stream"
            )
        response = await self._gateway.responses.response(owner, response_id)
        if response is None:
            raise _no_response(response_id)
        return Response(response, media_type="application/json")

    def _owner(self, request: Request) -> str:
        """Whose responses the request may see: the hash of its key."""
        key = sent_key(request.headers) if self._keyed else None
        return "" if key is None else hashlib.sha256(key).hexdigest()

    async def _recalled(
        self, asked: Asked, owner: str
    ) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
        """The items of the conversation so far, and those that the input names by their ids."""
        previous = asked.body.previous_response_id
        wanted = {one: found for one in asked.references if (found := response_of(one)) is not None}
        if previous is None and not wanted:
            return [], {}
        others = tuple(sorted(set(wanted.values())))
        recalled = await self._gateway.responses.recall(owner, previous, others)
        if recalled.conversation is None:
            raise NoPreviousResponse(
                f"Previous response with id {str(previous)[:100]!r} not found: {_GONE}. Send the "
                "conversation as input.",
                param="previous_response_id",
            )
        size = sum(map(len, recalled.conversation)) + sum(map(len, recalled.turns.values()))
        most = self._config.server.max_body_mb
        if size > most * 2**20:
            raise InvalidRequest(
                f"The conversation so far is larger than {most:g} MiB; send what matters of it as "
                "input, or raise server.max_body_mb.",
                param="previous_response_id",
            )
        earlier = [item for turn in recalled.conversation for item in from_json(turn)]
        known = {
            item["id"]: item
            for turn in recalled.turns.values()
            for item in from_json(turn)
            if item.get("id") in wanted
        }
        return earlier, known

    def _keeper(
        self, response_id: str, owner: str, items: list[dict[str, Any]], previous: str | None
    ) -> Keep:
        async def keep(answer: bytes, streamed: bool) -> None:
            response = from_json(answer)
            if streamed:
                response = response["response"]
                answer = to_json(response)
            turn = to_json([*items, *response["output"]])
            stored = StoredResponse(owner, answer, turn, previous)
            await self._gateway.responses.keep(response_id, stored)

        return keep


def _resolved(item: dict[str, Any], referred: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A stored item in place of a reference to it, which may outlive it."""
    kind = item.get("type")
    if kind == "item_reference" or (kind is None and "role" not in item):
        return referred[item["id"]]
    return item


def _no_response(response_id: str) -> NoResponse:
    return NoResponse(
        f"Response with id {response_id[:100]!r} not found: {_GONE}.", param="response_id"
    )
