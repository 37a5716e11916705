"""A folder of weights becomes a model and its tokenizer, or a sentence that says why not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from llm_serve.backends.output_decoder import end_tokens
from llm_serve.backends.transformers.projections import prepare
from llm_serve.config import ModelConfig, TransformersEngine
from llm_serve.errors import LoadFailed, ServeError
from llm_serve.models import gpu_memory
from llm_serve.models.footprint import estimate
from llm_serve.models.precision import pick_device, pick_dtype


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a folder of weights holds, ready to run."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    context_length: int
    eos_token_ids: tuple[int, ...]


def load(folder: Path, model_id: str, engine: TransformersEngine) -> Checkpoint:
    """Reads `folder` and nothing else: no hub, no code from the checkpoint, safetensors only."""
    transformers_logging.disable_progress_bar()
    device = pick_device(engine.device)
    with explained(model_id):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    _refuse_other_kinds(model_id, config)
    with explained(model_id):
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=pick_dtype(engine.dtype, device),
            device_map=str(device) if device.type != "cpu" else None,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    if info["missing_keys"] or info["mismatched_keys"]:
        raise LoadFailed(
            f"The weights of {model_id} are incomplete: "
            f"{len(info['missing_keys']) + len(info['mismatched_keys'])} tensors are missing or "
            "have another shape. Fetch the model again."
        )
    prepare(model)
    return Checkpoint(
        model=model.eval(),
        tokenizer=tokenizer,
        context_length=int(config.max_position_embeddings),
        eos_token_ids=end_tokens(model.generation_config.eos_token_id, tokenizer),
    )


def held_bytes() -> int:
    """The bytes that this process holds where models are: on the GPU, else in the host's memory."""
    if torch.cuda.is_available():
        return int(torch.cuda.memory_reserved())
    return int(psutil.Process().memory_info().rss)


def use_threads(wanted: int | None) -> None:
    """Lets torch use all cores that this process may use, unless a number is asked for: Ray starts
    its workers with OMP_NUM_THREADS=1."""
    if wanted is None:
        affinity = getattr(os, "sched_getaffinity", None)
        wanted = len(affinity(0)) if affinity else os.cpu_count()
    torch.set_num_threads(wanted or 1)


def take_device(model: ModelConfig, engine: TransformersEngine) -> None:
    """Makes threads and device ready for the weights of `model`, once its files are here: on a GPU,
    that is when the memory that they need is free. Raises LoadFailed."""
    use_threads(engine.threads)
    device = pick_device(engine.device)
    if device.type == "cuda":
        gpu_memory.wait_until_free(device, estimate(model, here=True), model.id)


@contextmanager
def explained(model_id: str) -> Iterator[None]:
    """Turns what libraries raise into one sentence each; theirs hold paths and stack depths."""
    try:
        yield
    except ServeError:
        raise
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise LoadFailed(_out_of_memory(model_id)) from error
    except RuntimeError as error:
        if "memory" in str(error).lower():
            raise LoadFailed(_out_of_memory(model_id)) from error
        raise LoadFailed(f"{model_id} could not be loaded by transformers.") from error
    except (OSError, KeyError, ValueError) as error:
        if "does not recognize this architecture" in str(error):
            raise LoadFailed(
                f"{model_id} has an architecture that this version of transformers does not know."
            ) from error
        raise LoadFailed(
            f"Files of {model_id} are missing or broken: a config, a tokenizer and safetensors "
            "weights are needed. Fetch the model again."
        ) from error
    except Exception as error:  # safetensors, tokenizers and jinja have errors of their own
        raise LoadFailed(
            f"Files of {model_id} are broken ({type(error).__name__}). Fetch the model again."
        ) from error


def _out_of_memory(model_id: str) -> str:
    return (
        f"Not enough memory for {model_id}. Lower engine.kv_cache_tokens, choose a smaller model, "
        "or unload another one."
    )


def _refuse_other_kinds(model_id: str, config: Any) -> None:
    names = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), ())
    classes = names if isinstance(names, tuple) else (names,)
    generates = {c.__name__ for c in classes} & set(config.architectures or ())
    if config.get_text_config() is not config:
        raise LoadFailed(
            f"{model_id} takes more than text (images or sound); this backend serves text models."
        )
    if not generates or config.is_encoder_decoder:
        raise LoadFailed(
            f"{model_id} is no decoder that generates text "
            f"({', '.join(config.architectures or ['no architecture named'])}); "
            "this backend serves causal language models."
        )
