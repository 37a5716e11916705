"""What clients see of a server that is told to stop while it works."""

from __future__ import annotations

import json
import signal
import threading
import time
from dataclasses import dataclass, field

import httpx
import psutil

from bench.family import Family
from bench.outcome import CUT, broken, foreign, stream_end
from bench.steady import CHAT, question
from bench.table import header, row

WORDS = 120
"""At 50 ms a word the stream still has some five seconds to go when the signal comes."""
EXIT_S = 90.0


@dataclass
class Stream:
    """A stream that is being read; `end` is as `stream_end` says."""

    end: str = CUT
    words: int = 0
    begun: threading.Event = field(default_factory=threading.Event)

    def read(self, url: str, model: str) -> None:
        body = question(model, "word " * WORDS, stream=True)
        received = b""
        try:
            with (
                httpx.Client(timeout=60, trust_env=False) as client,
                client.stream("POST", url + CHAT, json=body) as response,
            ):
                for part in response.iter_bytes():
                    received += part
                    self.words = received.count(b'"content":"word')
                    if self.words:
                        self.begun.set()
        except httpx.TransportError as error:
            self.end = broken(error)
        else:
            self.end = stream_end(received)
        finally:
            self.begun.set()


def goodbye(url: str, family: Family, model: str) -> list[str]:
    """SIGTERM while a stream runs: prints a table; what was missed."""
    stream = Stream()
    reader = threading.Thread(target=stream.read, args=(url, model))
    reader.start()
    stream.begun.wait(30)
    root = psutil.Process(family.root.pid)
    family.look()
    begin = time.monotonic()
    root.send_signal(signal.SIGTERM)
    new, health = _answers_meanwhile(url, model, reader)
    reader.join()
    code = _exit_code(root)
    seconds = time.monotonic() - begin
    left = len(family.left(2))
    whole = stream.end == "200" and stream.words == WORDS
    goals = {
        "the stream is whole": whole,
        "new requests get 409": new == {"409"},
        "/healthz says draining": health == {"draining"},
        "exit 0": code == 0,
        "nothing is left": left == 0,
    }
    columns = ("running stream", "new requests", "/healthz", "exit", "after", "processes left")
    print("\n" + header("SIGTERM while a stream runs", *columns, "met"))
    seen = "whole" if whole else f"{stream.end} after {stream.words} of {WORDS} words"
    said = [", ".join(sorted(kinds)) or "none was possible" for kinds in (new, health)]
    verdict = "yes" if all(goals.values()) else "no"
    print(row("", seen, *said, str(code), f"{seconds:.1f} s", str(left), verdict), flush=True)
    return [f"SIGTERM: {goal}" for goal, met in goals.items() if not met]


def _answers_meanwhile(url: str, model: str, reader: threading.Thread) -> tuple[set[str], set[str]]:
    """What a new request gets, and what /healthz says, for as long as the stream runs."""
    new, health = set(), set()
    time.sleep(0.5)  # the signal is on its way to every ingress
    while reader.is_alive():
        try:
            with httpx.Client(timeout=10, trust_env=False) as client:
                answer = client.post(url + CHAT, json=question(model, max_tokens=1))
                view = client.get(url + "/healthz")
            if reader.is_alive():
                why = foreign(answer.status_code, answer.headers, answer.content)
                new.add(why or str(answer.status_code))
                health.add(json.loads(view.content)["status"])
        except httpx.TransportError as error:
            new.add(broken(error))
        except (ValueError, KeyError, TypeError):
            health.add("not ours")
        time.sleep(0.2)
    return new, health


def _exit_code(root: psutil.Process) -> int | None:
    """None where it does not end."""
    try:
        code: int | None = root.wait(EXIT_S)
    except psutil.TimeoutExpired:
        return None
    return code
