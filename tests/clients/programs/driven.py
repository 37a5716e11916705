"""The loop of every program here: a line of standard input asks for a feature, a line answers."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

BASE = os.environ["LLM_SERVE_URL"]
URL = f"{BASE}/v1"
KEY = "not-required"

CAPITAL = "What is the capital of France?"
ITALY = "And the capital of Italy?"
PERSON = "Ada is 36 years old. Who is it, and how old?"
WEATHER = "What is the weather in Paris?"
SYSTEM = "You are a helpful assistant."
LIMIT = 256
"""Tokens. vLLM's grammars allow any white space, of which a small model may write much."""
TEXTS = ["The cat sat on the mat.", "A dog sleeps in the sun."]


def weather(city: str) -> str:
    """What the tool answers."""
    return f"It is sunny in {city}, 21 degrees."


def serve(**features: Callable[..., Any]) -> None:
    """Answers `{"feature", "model", "other"}` with what the feature returns, or with its error.

    What the client itself prints goes to standard error. Each feature is given a model, and
    `switch` another one too.
    """
    wire = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    loop = asyncio.new_event_loop()
    for line in sys.stdin:
        asked = json.loads(line)
        feature = features[asked["feature"]]
        models = [asked[name] for name in inspect.signature(feature).parameters if name in asked]
        try:
            answer = feature(*models)
            if inspect.iscoroutine(answer):
                answer = loop.run_until_complete(answer)
            said = {"answer": answer}
        except Exception as error:
            traceback.print_exc()
            said = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(said), file=wire, flush=True)
