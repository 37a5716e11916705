"""What the tests of switching say to a server again and again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.support.client import CHAT, Api, user
from tests.support.waiting import until

NOT_READY = (202, 503)


def ask(
    api: Api, model: str, text: str = "hello there", prefer: str | None = None, **fields: Any
) -> httpx.Response:
    """A chat with that `Prefer` header."""
    headers = {} if prefer is None else {"prefer": prefer}
    return api.post(CHAT, {"model": model, "messages": user(text), **fields}, headers=headers)


def held(api: Api, model: str, text: str = "hello there", **fields: Any) -> httpx.Response:
    """A chat whose client waits for the model to load."""
    return ask(api, model, text, "wait=60", **fields)


def said(response: httpx.Response) -> str:
    """The text of a whole answer."""
    assert response.status_code == 200, response.text
    content: str = response.json()["choices"][0]["message"]["content"]
    return content


def shown(api: Api, model: str) -> dict[str, Any]:
    """The model as `/v1/models/{id}` shows it."""
    view: dict[str, Any] = api.get(f"/v1/models/{model}").json()
    return view


def wait_for(api: Api, model: str, *states: str, seconds: float = 20) -> dict[str, Any]:
    """The model once it is in one of these states."""

    def there() -> dict[str, Any] | None:
        view = shown(api, model)
        return view if view["status"] in states else None

    what = f"{model} is {' or '.join(states)}"
    return until(there, what, seconds=seconds) or {}


def make_ready(api: Api, model: str) -> None:
    """Whatever happened before: the model is loaded and answers."""

    def answered() -> bool:
        return held(api, model).status_code == 200

    until(answered, f"{model} answers", seconds=40)


def make_cold(api: Api, *models: str) -> None:
    """Whatever happened before: none of the models is loaded, and no process of theirs runs."""
    for model in models:
        api.post(f"/v1/models/{model}/unload", b"")
    for model in models:
        wait_for(api, model, "unloaded", "failed")


def wait_until_idle(api: Api, *states: str) -> None:
    """No request runs, no switch is under way, and the server says so."""

    def idle() -> bool:
        health = api.health()
        quiet = health["running"] == health["queue_depth"] == 0
        return quiet and health["status"] in (states or ("ok",))

    until(idle, "the server is at rest", seconds=40)


def retried(api: Api, model: str, text: str, **fields: Any) -> tuple[httpx.Response, int]:
    """As a client does that was told to come back: the answer, and how many 202 came before it."""
    for count in range(100):
        response = ask(api, model, text, **fields)
        if response.status_code != 202:
            return response, count
        assert response.headers["retry-after"] == str(response.json()["retry_after_seconds"])
        time.sleep(response.json()["retry_after_seconds"])
    raise AssertionError(f"{model} was told to come back a hundred times")


@contextmanager
def endless(request: Callable[[], object]) -> Iterator[list[float]]:
    """Sends the same request again and again in a thread; the list has when each was answered."""
    stop = threading.Event()
    answered: list[float] = []
    failures: list[BaseException] = []

    def run() -> None:
        while not stop.is_set():
            try:
                request()
            except BaseException as error:
                failures.append(error)
                return
            answered.append(time.monotonic())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield answered
    finally:
        stop.set()
        thread.join()
    if failures:
        raise failures[0]
