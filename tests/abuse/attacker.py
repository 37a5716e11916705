"""The attacker, in a process of its own: `python -m tests.abuse.attacker PORT ATTACK SOURCE`.

It obeys a line of stdin at a time and answers each with one of stdout:

    go       the attack begins; answers once it is under way
    stop     it ends, and its connections close; answers with what the server said, as JSON
    outlast  as `stop`, but only once the server has closed all that was left half done

It talks from the loopback address SOURCE to the loopback, and to nothing else.
"""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import resource
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import httpx

from bench.outcome import foreign
from tests.abuse.attacks import ATTACKS, Attack

PATIENCE_S = 30.0
"""How long `outlast` waits, and how long an answer may take."""


@dataclass
class Report:
    """What came back. `longest_s` is the longest that the server kept a connection open on which a
    request was left half done, if it closed them all; `open` is how many it did not close."""

    answers: dict[str, int] = field(default_factory=dict)
    foreign: list[str] = field(default_factory=list)
    """What was not ours, each kind once."""
    closed: int = 0
    open: int = 0
    longest_s: float = 0.0
    unconnected: list[str] = field(default_factory=list)
    """Why a connection could not be made, each reason once."""


class Attacker:
    """Keeps as many connections busy as the attack has."""

    def __init__(self, port: int, attack: Attack, source: str) -> None:
        self._port = port
        self._attack = attack
        self._source = source
        self._tasks: set[asyncio.Task[None]] = set()
        self._answers: Counter[str] = Counter()
        self._report = Report()

    async def go(self) -> str:
        self._answers, self._report = Counter(), Report()
        begun = [asyncio.Event() for _ in range(self._attack.connections)]
        self._tasks = {asyncio.create_task(self._worker(event)) for event in begun}
        with suppress(TimeoutError):
            async with asyncio.timeout(10):
                for event in begun:
                    await event.wait()
        return "under way"

    async def stop(self) -> str:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return self._told()

    async def outlast(self) -> str:
        _, pending = await asyncio.wait(self._tasks, timeout=PATIENCE_S)
        self._report.open = len(pending)
        return await self.stop()

    def _told(self) -> str:
        self._report.answers = dict(self._answers)
        return json.dumps(asdict(self._report))

    async def _worker(self, begun: asyncio.Event) -> None:
        """One connection after the other; of those that are left half done, one alone."""
        while True:
            try:
                await self._connection(begun)
            except OSError as error:
                if str(error) not in self._report.unconnected:
                    self._report.unconnected.append(str(error))
                await asyncio.sleep(0.05)
            begun.set()
            if self._attack.stalls:
                return

    async def _connection(self, begun: asyncio.Event) -> None:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self._port, local_addr=(self._source, 0)
        )
        begin = time.monotonic()
        sending = asyncio.create_task(self._send(writer, begun))
        try:
            if self._attack.hangs_up:
                await sending
                return
            received = b""
            with suppress(ConnectionError):
                async with asyncio.timeout(None if self._attack.stalls else PATIENCE_S):
                    while part := await reader.read(65536):
                        received += part
            self._report.longest_s = max(self._report.longest_s, time.monotonic() - begin)
            self._judge(received)
        except TimeoutError:
            self._report.open += 1
        finally:
            sending.cancel()
            writer.transport.abort()

    async def _send(self, writer: asyncio.StreamWriter, begun: asyncio.Event) -> None:
        with suppress(ConnectionError):
            for pause, part in self._attack.parts():
                writer.write(part)
                await writer.drain()
                begun.set()
                await asyncio.sleep(pause)
        begun.set()

    def _judge(self, received: bytes) -> None:
        if not received:
            self._report.closed += 1
            return
        try:
            response = http.client.HTTPResponse(cast("Any", _Received(received)))
            response.begin()
            body = response.read()
        except (http.client.HTTPException, ValueError) as error:
            why: str | None = f"no HTTP: {error!r}: {received[:100]!r}"
        else:
            self._answers[str(response.status)] += 1
            why = foreign(response.status, httpx.Headers(response.getheaders()), body)
        if why is not None and why not in self._report.foreign:
            self._report.foreign.append(why)


class _Received:
    """What http.client takes for a socket."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._content)


async def main(port: int, attack: str, source: str) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    attacker = Attacker(port, ATTACKS[attack], source)
    commands = {"go": attacker.go, "stop": attacker.stop, "outlast": attacker.outlast}
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(await commands[line.strip()](), flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
