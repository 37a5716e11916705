"""One TensorRT-LLM model in this process, behind the app: the real small model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_serve.config import default_config
from tests.support.client import Api
from tests.support.inprocess import serving
from tests.support.tensorrt import importable

importable()
MODEL = "smol"


@pytest.fixture(scope="session")
def folder() -> Path:
    from llm_serve.models import resolve

    return resolve(default_config().default_model)


def entry(folder: Path, **engine: Any) -> dict[str, Any]:
    return {"id": MODEL, "backend": "tensorrt_llm", "source": str(folder), "engine": engine}


@pytest.fixture(scope="package")
def api(folder: Path) -> Iterator[Api]:
    with serving(entry(folder, dtype="float32"), start_s=120) as api:
        assert [m.error for m in api.gateway.models.values()] == [None]
        yield api
