"""Who may import what, so that the API starts in a blink and runs where no engine is installed."""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"ray", "torch", "transformers", "vllm", "tensorrt_llm"}
LIGHT_MODULES = (
    *("llm_serve", "llm_serve.config", "llm_serve.errors", "llm_serve.status"),
    *("llm_serve.cli.main", "tests.support.local_gateway", "llm_serve.host.processes"),
    *("llm_serve.api.app", "llm_serve.generation.execution", "llm_serve.models"),
    *("llm_serve.backends", "llm_serve.backends.base", "llm_serve.backends.echo"),
    *("llm_serve.backends.transformers", "llm_serve.residency"),
)


def _exists(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


@pytest.mark.parametrize("module", LIGHT_MODULES)
def test_importing_it_brings_no_engine_and_no_ray(module: str) -> None:
    if not _exists(module):
        pytest.skip(f"there is no {module} yet")
    code = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert not loaded & HEAVY
    assert "deployments" not in loaded


def _imports(file: Path) -> Iterator[tuple[int, str]]:
    """Every module that a file imports, anywhere in it, with its line."""
    for node in ast.walk(ast.parse(file.read_text(), file.name)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno} is a relative import"
            yield node.lineno, node.module or ""


def _offenders(package: str, forbidden: set[str]) -> list[str]:
    return [
        f"{file.relative_to(ROOT)}:{line} imports {module}"
        for file in sorted((ROOT / package).rglob("*.py"))
        for line, module in _imports(file)
        if module.partition(".")[0] in forbidden
    ]


def test_only_deployments_imports_ray() -> None:
    assert not _offenders("llm_serve", {"ray"})
    assert _offenders("deployments", {"ray"}), "the scan sees nothing at all"


def test_llm_serve_imports_deployments_only_to_start_it() -> None:
    """The command starts the Ray side; nothing below it knows that there is one."""
    assert all(o.startswith("llm_serve/cli") for o in _offenders("llm_serve", {"deployments"}))


def test_residency_imports_the_standard_library_and_the_status_only() -> None:
    status = ("llm_serve.status", "llm_serve.progress")
    if not _exists("llm_serve.residency"):
        pytest.skip("there is no llm_serve.residency yet")
    for file in sorted((ROOT / "llm_serve" / "residency").rglob("*.py")):
        for line, module in _imports(file):
            top = module.partition(".")[0]
            own = module.startswith("llm_serve.residency") or module in status
            assert own or top in sys.stdlib_module_names, f"{file.name}:{line} imports {module}"


def test_api_and_config_import_no_backend_but_the_seam() -> None:
    allowed = {"llm_serve.backends", "llm_serve.backends.base"}
    files = [*(ROOT / "llm_serve/config").glob("*.py"), *(ROOT / "llm_serve/api").glob("*.py")]
    for file in files:
        for line, module in _imports(file):
            backend = module.startswith("llm_serve.backends")
            assert not backend or module in allowed, f"{file.name}:{line} imports {module}"
