"""One run of everything: a server, all clients, and what each of them saw."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.clients.agents import CLAUDE_CALL, CODEX_CALL, Agent, call
from tests.clients.driver import Driven, Outcome, missing
from tests.clients.roster import CLIENTS, COLUMNS, SCRIPTED, TRANSFORMERS, VLLM, Cell
from tests.support.client import Api
from tests.support.default_model import entry
from tests.support.inprocess import echo
from tests.support.switching import make_cold
from tests.support.whole import Whole, whole

A, B, ON_VLLM, EMBEDDINGS, SCRIPT = "smol", "smol-again", "smol-vllm", "smol-embeddings", "scripted"
AGENTS = {"Codex CLI": "for-codex", "Claude Code": "for-claude"}
"""The models whose first answer is a call of the agent's tool."""
OTHER = "-again"
"""After the name of such a model: the one that goes on with its conversation."""
GREEDY = {"temperature": 0, "max_tokens": 256}
WEATHER = {"name": "weather", "arguments": {"city": "Paris"}}
VLLM_ENGINE = {
    "max_model_len": 2048,
    "kv_cache_memory_bytes": 256 * 2**20,
    "max_num_seqs": 16,
    "enforce_eager": True,
}
_LONG = {"context_length": 65536, "load_s": 0.5}
"""What an agent sends is long."""
Tried = Driven | Agent
_COLD, _SWITCH = COLUMNS["cold model"], COLUMNS["switch"]


def configuration() -> dict[str, Any]:
    """The default model under two ids and room for one: a request for the other is a switch."""
    smol: dict[str, Any] = {"engine": {}, "defaults": GREEDY}
    models = [
        entry(id=A, preload=True, **smol),
        entry(id=B, **smol),
        entry(id=EMBEDDINGS, kind="embedding", engine={}),
        entry(id=ON_VLLM, backend="vllm", engine=VLLM_ENGINE, defaults=GREEDY),
        echo(SCRIPT, pin=True, answers=[call(WEATHER)]),
    ]
    for model, wanted in zip(AGENTS.values(), (CODEX_CALL, CLAUDE_CALL), strict=True):
        models += [echo(model, answers=[call(wanted)], **_LONG), echo(model + OTHER, **_LONG)]
    return {
        "models": models,
        "residency": {"max_resident": 2, "min_residency_s": 0},  # the scripted one is pinned
    }


class Trial:
    """The outcome of each cell. A client does one thing at a time, and all work side by side."""

    def __init__(
        self, server: Whole, home: Path, wanted: Collection[Cell], skipped: Mapping[str, str]
    ) -> None:
        self.outcomes: dict[Cell, Outcome] = {}
        self.skipped = skipped
        self._wanted = set(wanted)
        self._clients: list[Driven] = []
        self._agents: list[Agent] = []
        self._api = Api(httpx.Client(base_url=server.url, timeout=120, trust_env=False))
        names = {cell.client for cell in wanted} - set(skipped)
        for number, client in enumerate(CLIENTS):
            if client.name not in names:
                continue
            if client.program is None:
                self._agents.append(Agent(client, home / str(number), server.url))
            else:
                self._clients.append(Driven(client, home / str(number), server.url))

    def run(self) -> None:
        """What needs a model of its own comes one after the other."""
        embeddings = COLUMNS["embeddings"]
        alone = {*embeddings, *_COLD, *_SWITCH}
        phases: list[tuple[str, str, Callable[[str], bool]]] = [
            (SCRIPTED, SCRIPT, lambda feature: feature not in alone),
            (TRANSFORMERS, A, lambda feature: feature not in alone),
            (TRANSFORMERS, EMBEDDINGS, lambda feature: feature in embeddings),
        ]
        for phase in phases:
            self._side_by_side(*phase)
        for client in self._clients:
            self._cold_and_switch(client, TRANSFORMERS, A, B)
        for agent in self._agents:
            model = AGENTS[agent.client.name]
            self._try(agent, SCRIPTED, model, lambda feature: feature not in alone)
            self._cold_and_switch(agent, SCRIPTED, model, model + OTHER)
        self._side_by_side(VLLM, ON_VLLM, lambda feature: True)

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self._api.client.close()

    def _side_by_side(self, backend: str, model: str, chosen: Callable[[str], bool]) -> None:
        with ThreadPoolExecutor(len(self._clients) or 1) as pool:
            work = [
                pool.submit(self._try, client, backend, model, chosen) for client in self._clients
            ]
        for done in work:
            done.result()

    def _try(self, client: Tried, backend: str, model: str, chosen: Callable[[str], bool]) -> None:
        for cell in self._cells(client, backend):
            if chosen(cell.feature):
                self.outcomes[cell] = client.do(cell.feature, model)

    def _cold_and_switch(self, client: Tried, backend: str, model: str, other: str) -> None:
        for cell in self._cells(client, backend):
            if cell.feature in _COLD:
                make_cold(self._api, model)
                self.outcomes[cell] = client.do(cell.feature, model)
            elif cell.feature in _SWITCH:
                self.outcomes[cell] = client.do(cell.feature, model, other)

    def _cells(self, client: Tried, backend: str) -> list[Cell]:
        every = (*client.client.features, *client.client.scripted)
        found = [Cell(client.client.name, feature, backend) for feature in every]
        return [cell for cell in found if cell in self._wanted]


@contextmanager
def trial(home: Path, wanted: Collection[Cell]) -> Iterator[Trial]:
    """Once it has run."""
    skipped = {client.name: why for client in CLIENTS if (why := missing(client))}
    with whole(configuration()) as server:
        trial = Trial(server, home, wanted, skipped)
        try:
            trial.run()
            yield trial
        finally:
            trial.close()
