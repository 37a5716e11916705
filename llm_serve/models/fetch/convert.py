"""GGUF to a dense bfloat16 safetensors folder, as a process of its own.

    python -m llm_serve.models.fetch.convert FOLDER FILE.gguf TARGET

Its own process, because a conversion needs several times the file in memory and imports torch and
transformers: the memory is given back, and being killed for it is a sentence in the server. The
fractions are shares of the time measured on the default model (22 s on one core), not of bytes:
transformers spends it on parsing the file, three times, and has no hook there.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

from llm_serve.errors import LoadFailed
from llm_serve.models.disk import disk_errors, require_space
from llm_serve.models.fetch.subprocess_runner import tell


def convert(folder: Path, file: str, target: Path) -> None:
    """Writes weights, configuration, tokenizer and chat template of `folder / file` to `target`.

    Raises LoadFailed where the disk is too small or transformers cannot read the file.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    tell(fraction=0.2)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
        tell(fraction=0.4)
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            gguf_file=file,
            dtype=torch.bfloat16,
            quantization_config=GgufConfig(dequantize=True),
        )
    except (ValueError, KeyError, NotImplementedError, RuntimeError, IndexError) as error:
        traceback.print_exc()
        raise LoadFailed(
            f"transformers cannot read this GGUF file ({type(error).__name__}); the log has the "
            "reason. Not every architecture and quantization is supported."
        ) from None
    tell(fraction=0.95)
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    require_space(target.parent, size, "write the converted weights")
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    tell(fraction=1.0)


def main() -> int:
    os.environ["HF_HUB_OFFLINE"] = "1"  # everything is in the file; nothing may ask the network
    folder, file, target = sys.argv[1:]
    try:
        with disk_errors():
            convert(Path(folder), file, Path(target))
    except LoadFailed as error:
        tell(failed=error.message)
        return 1
    except ImportError as error:
        tell(
            failed=f"A GGUF file is converted with the Python package {error.name}, which is not "
            "installed: run `pip install 'llm-serve[transformers]'`."
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
