"""The loop: who leaves frees their place, what fails tells those whom it concerns, and nobody waits
for a loop that has ended."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import torch

from llm_serve.backends.transformers.embedding.engine import Engine, Input
from llm_serve.errors import EngineDied, InternalError

OUT_OF_MEMORY, NO_NUMBER, BROKEN = 7, 8, 9
"""Tokens at which the model does so."""


class Model:
    """Gives each input its first token as a vector, and remembers the batches; a batch waits while
    `held` is not set."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.held = threading.Event()
        self.held.set()

    def __call__(self, batch: list[Input]) -> torch.Tensor:
        first = [one.token_ids[0] for one in batch]
        self.batches.append(first)
        assert self.held.wait(20)
        if OUT_OF_MEMORY in first:
            raise torch.OutOfMemoryError
        if BROKEN in first:
            raise RuntimeError("CUDA error: device-side assert")
        return torch.tensor([[float("nan") if i == NO_NUMBER else float(i)] for i in first])


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def engine(model: Model) -> Iterator[Engine]:
    engine = Engine(model, max_batch_tokens=40)
    yield engine
    model.held.set()
    engine.stop()


def inputs(*first: int, length: int = 10) -> list[Input]:
    return [Input([one] * length) for one in first]


async def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


async def started(model: Model) -> None:
    await eventually(lambda: bool(model.batches))


async def test_rows_come_in_the_order_of_the_inputs(engine: Engine, model: Model) -> None:
    asked = [Input([number] * (1 + number * 7 % 30)) for number in range(100, 160)]
    rows = await engine.encode(asked)
    assert [row.tolist() for row in rows] == [[float(number)] for number in range(100, 160)]
    assert len(model.batches) < 60
    assert engine.active == 0


async def test_clients_share_a_batch(engine: Engine, model: Model) -> None:
    model.held.clear()
    first = asyncio.create_task(engine.encode(inputs(1)))
    await started(model)
    others = [asyncio.create_task(engine.encode(inputs(number))) for number in (2, 3, 4)]
    await asyncio.sleep(0)
    model.held.set()
    await asyncio.gather(first, *others)
    assert [sorted(batch) for batch in model.batches] == [[1], [2, 3, 4]]


async def test_who_leaves_is_computed_no_more(engine: Engine, model: Model) -> None:
    model.held.clear()
    long = asyncio.create_task(engine.encode(inputs(*range(10, 50))))
    await started(model)
    other = asyncio.create_task(engine.encode(inputs(1)))
    await asyncio.sleep(0)
    long.cancel()
    with pytest.raises(asyncio.CancelledError):
        await long
    assert engine.active == 1
    model.held.set()
    assert [row.tolist() for row in await other] == [[1.0]]
    assert model.batches[1:] == [[1]]


async def test_short_memory_fails_the_batch_alone(engine: Engine) -> None:
    with pytest.raises(InternalError, match="not enough memory"):
        await engine.encode(inputs(OUT_OF_MEMORY, 1, 2, 3, 4, 5))
    assert len(await engine.encode(inputs(1))) == 1
    engine.check()


async def test_what_is_no_number_is_no_answer(engine: Engine, model: Model) -> None:
    model.held.clear()
    asked = [asyncio.create_task(engine.encode(inputs(n))) for n in (1, NO_NUMBER, 2)]
    await started(model)
    model.held.set()
    one, wrong, two = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(wrong, InternalError)
    assert "float32" in wrong.message
    assert [one[0].tolist(), two[0].tolist()] == [[1.0], [2.0]]  # type: ignore[index]


async def test_a_loop_that_ended_leaves_nobody_waiting(engine: Engine, model: Model) -> None:
    model.held.clear()
    waiting = [asyncio.create_task(engine.encode(inputs(n))) for n in (1, BROKEN, 2)]
    await started(model)
    await asyncio.sleep(0)
    model.held.set()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert any(isinstance(outcome, EngineDied) for outcome in outcomes)
    with pytest.raises(EngineDied):
        engine.check()
    with pytest.raises(EngineDied):
        await asyncio.wait_for(engine.encode(inputs(1)), 5)
    assert engine.active == 0


async def test_stopping_fails_what_waits(engine: Engine, model: Model) -> None:
    model.held.clear()
    waiting = asyncio.create_task(engine.encode(inputs(*range(10, 50))))
    await started(model)
    stopping = asyncio.create_task(asyncio.to_thread(engine.stop))
    await eventually(lambda: not engine._open)
    model.held.set()
    await stopping
    with pytest.raises(EngineDied):
        await waiting
