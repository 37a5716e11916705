"""Every private name of another project that is used here, and the one file that may use it.

Each is a debt: a new version may take it away without a word. So there are fewer than 15, and each
lies in a module that says which version it was written for, looks for it at the start and tells
what to do (`deployments/ray_patches/check.py`, and `private.py` of a backend).

Private is what begins with an underscore, whatever is in a module that is private by its path, and
what `INTERNAL` lists: spelled like anything public, and documented nowhere. What another project
writes for people to read (process titles, pip's messages, the template of HAProxy's configuration)
is no name; whoever reads it does without where it has changed, or says so. Nor are the undocumented
modules of vLLM that have public names: `tests/vllm/test_private.py` holds that an engine looks for
each before it starts.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_RAY, _TORCH, _VLLM = (
    "deployments/ray_patches",
    "llm_serve/backends/transformers/private.py",
    "llm_serve/backends/vllm/private.py",
)
LEFT = {
    "SERVE_CONTROLLER_ACTOR": f"{_RAY}/actors.py",
    "SERVE_REPLICA::": f"{_RAY}/actors.py",
    "_by_reference": f"{_RAY}/by_value.py",
    "apply_config": f"{_RAY}/deploy.py",
    "ray.serve._private.replica": f"{_RAY}/grpc_port.py",
    "_node_ip_address": f"{_RAY}/local_ray.py",
    "ray.serve._private.controller": f"{_RAY}/loop_pace.py",
    "ray._private.grpc_utils.init_grpc_channel": f"{_RAY}/prestart.py",
    "ray.core.generated.node_manager_pb2": f"{_RAY}/prestart.py",
    "_linear_pointwise": _TORCH,
    "_reorder_linear_weight": _TORCH,
    "create_error_response": _VLLM,
    "lora_requests": _VLLM,
    "output_handler": _VLLM,
}
INTERNAL = {
    *("SERVE_CONTROLLER_ACTOR", "SERVE_REPLICA::", "SERVE_PROXY_ACTOR"),
    *("apply_config", "deploy_apps", "serve_start"),
    *("create_error_response", "lora_requests", "output_handler", "engine_core", "EngineCore"),
    *("EngineDeadError", "openai_serving_chat", "PrestartWorkers"),
}
"""Names, also of actors and processes, that only look public."""
_INTERNAL_MODULES = re.compile(r"(\w+\.)+_(?!_)\w+(\.\w+)*|ray\.core\.\w+(\.\w+)*|vllm\.v1(\.\w+)*")
_DOCUMENTED = {"_asdict", "_exit", "_fields", "_replace"}
"""Of the standard library, with their underscore."""
_ONLY_LOOKS = "deployments/ray_patches/check.py"
_OURS = ("llm_serve", "deployments")


def _trees() -> Iterator[tuple[str, ast.Module]]:
    for top in _OURS:
        for file in sorted((ROOT / top).rglob("*.py")):
            yield file.relative_to(ROOT).as_posix(), ast.parse(file.read_text())


def _own(tree: ast.Module) -> Iterator[str]:
    """What a file defines, and so may use with its underscore."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id == "self":
                yield node.attr
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def _docstrings(tree: ast.Module) -> set[int]:
    """Texts that stand alone: nobody uses what they name."""
    return {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}


def _imported(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    names = [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        names = [f"{node.module}.{name}" for name in names]
    yield from (name for name in names if name.partition(".")[0] not in (*_OURS, "__future__"))


def private_names(tree: ast.Module, own: set[str]) -> set[str]:
    """The private names of others that a file uses."""

    def is_private(name: str) -> bool:
        hidden = name.startswith("_") and not name.startswith("__")
        return name in INTERNAL or (hidden and name not in _DOCUMENTED | own)

    found: set[str] = set()
    texts = _docstrings(tree)
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls")):
                pass
            case ast.Attribute(attr=name) if is_private(name):
                found.add(name)
            case ast.keyword(arg=str(name)) if is_private(name):
                found.add(name)
            case ast.Import() | ast.ImportFrom():
                for name in _imported(node):
                    last = name.rpartition(".")[2]
                    if _INTERNAL_MODULES.fullmatch(name):
                        found.add(name)
                    elif is_private(last):
                        found.add(last)
            case ast.Call(
                func=ast.Name(id="getattr" | "setattr" | "hasattr" | "delattr"),
                args=[_, ast.Constant(value=str(name)), *_],
            ) if is_private(name):
                found.add(name)
            case ast.Constant(value=str(text)) if id(node) not in texts:
                name = text.rpartition(".")[2]
                if text in INTERNAL or _INTERNAL_MODULES.fullmatch(text):
                    found.add(text)
                elif re.fullmatch(r"\w+(\.\w+)+", text) and name in INTERNAL:
                    found.add(name)
    return found


def test_no_other_name_is_used_and_none_elsewhere() -> None:
    trees = dict(_trees())
    own = {name for tree in trees.values() for name in _own(tree)}
    found = {
        (name, file)
        for file, tree in trees.items()
        if file != _ONLY_LOOKS
        for name in private_names(tree, own)
    }
    assert found == set(LEFT.items())


def test_there_are_fewer_than_fifteen_and_each_is_guarded() -> None:
    assert len(LEFT) < 15
    for file in LEFT.values():
        assert file.startswith(f"{_RAY}/") or file.endswith("/private.py")


@pytest.mark.parametrize(
    ("planted", "found"),
    [
        ("model._cache.clear()", "_cache"),
        ("ray.init(_temp_dir='/x')", "_temp_dir"),
        ("from ray._private import worker", "ray._private.worker"),
        ("import ray.serve._private.api", "ray.serve._private.api"),
        ("from pip._internal.cli import main", "pip._internal.cli.main"),
        ("from huggingface_hub import _login", "huggingface_hub._login"),
        ("def f():\n    from vllm.v1.engine import core", "vllm.v1.engine.core"),
        ("from ray.core.generated import gcs_pb2", "ray.core.generated.gcs_pb2"),
        ("setattr(torch, '_C', None)", "_C"),
        ("getattr(engine, 'output_handler', None)", "output_handler"),
        ("sys.modules['vllm.v1.engine.core']", "vllm.v1.engine.core"),
        ("ray.get_actor('SERVE_CONTROLLER_ACTOR')", "SERVE_CONTROLLER_ACTOR"),
        ("engine.engine_core.abort()", "engine_core"),
        ("patch('ray.serve.api.serve_start')", "serve_start"),
    ],
)
def test_what_is_planted_is_found(planted: str, found: str) -> None:
    assert private_names(ast.parse(planted), set()) == {found}


@pytest.mark.parametrize(
    "plain",
    [
        "self._engine.stop()",
        "other._mine()",
        "place._replace(policy=0)",
        "os._exit(1)",
        "module.__wrapped__",
        "'''What vllm.v1.engine.core does.'''",
        "from llm_serve.backends.transformers import private",
        "vllm.AsyncLLMEngine",
    ],
)
def test_what_is_ours_or_documented_is_not(plain: str) -> None:
    assert private_names(ast.parse(plain), {"_mine", "_engine"}) == set()
