"""The examples of the API usage guide, word for word but for the address and the model id."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ADDRESS = "http://127.0.0.1:11424"
MODEL = "Qwen/Qwen2.5-7B-Instruct"
FILE = "000_652044181427395e.txt"

CURL_CHAT = """\
curl -s http://127.0.0.1:11424/v1/chat/completions \\
  -H 'Content-Type: application/json' \\
  -d '{
    "messages": [{"role": "user", "content": "Explain cataract surgery in one sentence."}],
    "stream": false
  }'
"""
CURL_STREAM = """\
curl -N http://127.0.0.1:11424/v1/chat/completions \\
  -H 'Content-Type: application/json' \\
  -d '{
    "messages": [{"role": "user", "content": "Count from one to five."}],
    "stream": true
  }'
"""
CURL_MODELS = """\
curl -s http://127.0.0.1:11424/v1/models
"""
CURL_HEALTH = """\
curl -s http://127.0.0.1:11424/healthz
"""
SDK_CHAT = """\
from openai import OpenAI

client = OpenAI(
    base_url="http://127.0.0.1:11424/v1",
    api_key="not-required",  # server does not enforce auth by default
)

resp = client.chat.completions.create(
    model="Qwen/Qwen2.5-7B-Instruct",
    messages=[{"role": "user", "content": "Say hello"}],
    stream=False,
)

print(resp.choices[0].message.content)
"""
SDK_STREAM = """\
from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:11424/v1", api_key="not-required")

stream = client.chat.completions.create(
    model="Qwen/Qwen2.5-7B-Instruct",
    messages=[{"role": "user", "content": "Write three short bullet points about eye surgery."}],
    stream=True,
)

for chunk in stream:
    delta = chunk.choices[0].delta.content
    if delta:
        print(delta, end="", flush=True)
print()
"""
EXAMPLES = (CURL_CHAT, CURL_STREAM, CURL_MODELS, CURL_HEALTH, SDK_CHAT, SDK_STREAM)


def text() -> str | None:
    """The guide itself, which lies beside the tests' data folder; None where there is none."""
    folder = os.environ.get("LLM_SERVE_TEST_DATA")
    file = Path(folder).parent / FILE if folder else None
    return file.read_text() if file is not None and file.is_file() else None


def run(example: str, url: str, model: str) -> str:
    """What the example prints, run as a person would: by a shell with curl, or by Python."""
    program = example.replace(ADDRESS, url).replace(MODEL, model)
    command = ["bash", "-c", program] if example.startswith("curl") else [sys.executable]
    done = subprocess.run(
        command,
        input=None if example.startswith("curl") else program,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
