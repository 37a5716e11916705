"""What vLLM raises: a 400 with its words where it is about the request, else a logged 500."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed: make install-vllm")

from fastapi import FastAPI, Request
from vllm.entrypoints.serve.engine.serving import BaseServing
from vllm.entrypoints.serve.exception_handling.register import init_exception_handler
from vllm.exceptions import LoRAAdapterNotFoundError, VLLMValidationError
from vllm.renderers.registry import RENDERER_REGISTRY
from vllm.v1.engine.exceptions import EngineGenerateError

from llm_serve.backends.vllm import refusals
from llm_serve.backends.vllm.backend import VllmBackend
from llm_serve.backends.vllm.inner_server import InnerServer
from llm_serve.config import ModelConfig
from llm_serve.errors import InternalError, InvalidRequest, ServeError
from llm_serve.sampling import Prompt, Sampling

pytestmark = pytest.mark.vllm

SECRET = "of /srv/secret/model.bin"


def invalid() -> None:
    raise VLLMValidationError("Be brief.", parameter="max_tokens")


def unmigrated() -> None:
    """A plain ValueError by which vLLM refuses what it reads."""
    RENDERER_REGISTRY.load_renderer_cls("no-such-mode")


def adapter() -> None:
    raise LoRAAdapterNotFoundError("louder", "/srv/secret/adapter")


def defect() -> None:
    raise ValueError(f"zip() argument 2 is shorter {SECRET}")


def slip() -> None:
    raise TypeError(f"no len() {SECRET}")


def engine() -> None:
    raise EngineGenerateError(SECRET)


RAISED: list[tuple[Callable[[], None], type[ServeError], str]] = [
    (invalid, InvalidRequest, "Be brief."),
    (unmigrated, InvalidRequest, "No renderer registered"),
    (adapter, InvalidRequest, "No adapter found for"),
    (defect, InternalError, "The engine failed on this request"),
    (slip, InternalError, "The engine failed on this request"),
    (engine, InternalError, "The engine failed on this request"),
]


@pytest.mark.parametrize(("act", "kind", "says"), RAISED)
async def test_what_its_server_raises(
    caplog: pytest.LogCaptureFixture, act: Callable[[], None], kind: type[ServeError], says: str
) -> None:
    app = FastAPI()
    init_exception_handler(app)
    app.state.args = SimpleNamespace(log_error_stack=False)
    app.state.server, app.state.engine_client = (
        None,
        SimpleNamespace(errored=False, is_running=True),
    )
    refusals.install()
    refusals.install()

    @app.post("/v1/chat/completions")
    async def answer(request: Request) -> None:
        act()

    with pytest.raises(ServeError) as raised:
        async for _ in InnerServer(app, 1024).post("/v1/chat/completions", b"{}"):
            pass
    assert type(raised.value) is kind
    assert says in raised.value.message
    assert "secret" not in raised.value.message
    if act in (defect, slip):
        assert SECRET in caplog.text


def test_what_its_server_says_in_a_stream() -> None:
    """There an error is a frame, made in another module."""
    refusals.install()
    for act, status in ((invalid, 400), (unmigrated, 400), (defect, 500)):
        try:
            act()
        except Exception as error:
            made = BaseServing.create_error_response(error)
        assert made.error.code == status
        assert "secret" not in json.dumps(made.model_dump())


@pytest.mark.parametrize(
    ("act", "kind", "says"),
    [r for r in RAISED if r[0] is not unmigrated],  # its engine makes an EngineGenerateError of it
)
async def test_what_its_engine_raises(
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[], None],
    kind: type[ServeError],
    says: str,
) -> None:
    async def generate(*args: Any, **named: Any) -> AsyncGenerator[Any, None]:
        act()
        yield

    config = ModelConfig.model_validate({"id": "m", "backend": "vllm", "source": "./m"})
    backend = VllmBackend(config)
    monkeypatch.setattr(backend, "_vocabulary", SimpleNamespace(decode=str), raising=False)
    monkeypatch.setattr(backend, "_longest", 100)
    monkeypatch.setattr(
        backend,
        "_engine",
        SimpleNamespace(
            generate=generate,
            errored=False,
            model_config=SimpleNamespace(get_vocab_size=lambda: 10),
        ),
        raising=False,
    )
    with pytest.raises(ServeError) as raised:
        async for _ in backend.generate(Prompt((1,)), Sampling()):
            pass
    assert type(raised.value) is kind
    assert says in raised.value.message
    assert "secret" not in raised.value.message
    if kind is InternalError:
        assert SECRET in caplog.text
