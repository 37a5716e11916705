"""The floor of a switch: a fresh process that loads a folder of weights and makes one token.

    python -m bench.fresh FOLDER

No server, no Ray, no report: what nobody who loads a model in a process of its own can avoid.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    from llm_serve.backends.transformers import checkpoint
    from llm_serve.config import TransformersEngine

    checkpoint.use_threads(None)
    loaded = checkpoint.load(Path(sys.argv[1]), "fresh", TransformersEngine())
    inputs = loaded.tokenizer("Say hello", return_tensors="pt").to(loaded.model.device)
    loaded.model.generate(**inputs, max_new_tokens=1, do_sample=False)


if __name__ == "__main__":
    main()
