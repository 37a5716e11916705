"""What is used of vLLM beyond its documentation is there, and is told by name where it is not."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed: make install-vllm")

import vllm
from starlette.applications import Starlette

from llm_serve.backends.vllm import private
from llm_serve.backends.vllm.backend import VllmBackend
from llm_serve.config import ModelConfig
from llm_serve.errors import LoadFailed

pytestmark = pytest.mark.vllm
PACKAGE = Path(private.__file__).parent
NAMES = [(module, name) for module, names in private.RELIED_ON.items() for name in names]


def test_the_installed_vllm_has_it_all() -> None:
    private.check()
    assert private.installed_version().startswith(f"{private.WRITTEN_FOR}.")


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_what_is_missing_is_said_with_what_to_do(
    module: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = ModuleType(module)
    for other in private.RELIED_ON[module]:
        if other != name:
            vars(without)[other] = None
    private.check()  # imports all else
    monkeypatch.setitem(sys.modules, module, without)
    with pytest.raises(LoadFailed, match=rf"{module}\.{name}\. It was written for vLLM 0.32"):
        private.check()


async def test_no_engine_is_started_without_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private, "RELIED_ON", {"vllm.no_such_module": ("build_app",)})
    entry = {"id": "m", "backend": "vllm", "source": str(folder)}
    with pytest.raises(LoadFailed, match=r"lacks .* vllm\.no_such_module\.build_app"):
        await VllmBackend(ModelConfig.model_validate(entry)).load(lambda progress: None)


@pytest.mark.parametrize("gone", ["lora_requests", "output_handler"])
async def test_what_only_a_started_engine_shows(gone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def init_app_state(engine: Any, state: Any, *_: Any) -> None:
        state.openai_serving_models = SimpleNamespace(lora_requests={})
        owner = engine if hasattr(engine, gone) else state.openai_serving_models
        delattr(owner, gone)

    (module,) = [m for m, names in private.RELIED_ON.items() if "init_app_state" in names]
    private.check()
    monkeypatch.setattr(f"{module}.init_app_state", init_app_state)
    engine: Any = SimpleNamespace(output_handler=None)
    with pytest.raises(LoadFailed, match=rf"SimpleNamespace\.{gone}\. It was written for"):
        await private.fill_state(Starlette(), engine, None, (), {})  # type: ignore[arg-type]


def test_nothing_is_imported_that_is_not_looked_for() -> None:
    """Whatever the package imports of vLLM when it runs is documented, or in RELIED_ON."""
    found = []
    for file in PACKAGE.glob("*.py"):
        tree = ast.parse(file.read_text())
        typing_only = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom) or id(node) in typing_only:
                continue
            if node.module == "vllm":
                assert {alias.name for alias in node.names} <= set(vllm.__all__), file
            elif (node.module or "").startswith("vllm."):
                found += [(node.module, alias.name) for alias in node.names]
    (patched,) = [one for one in NAMES if one[1] == "create_error_response"]
    assert {*found, patched} == set(NAMES)
