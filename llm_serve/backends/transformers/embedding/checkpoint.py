"""A folder of an embedding model becomes an encoder and its tokenizer, or a sentence that says why
not.

The folder is read as sentence-transformers reads it: `modules.json` names its parts. One without
that file is a plain model of transformers, whose tokens are averaged, or for a causal one the last
stands for all: what sentence-transformers does with it too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from torch import nn
from transformers import (
    MODEL_FOR_TEXT_ENCODING_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForTextEncoding,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from llm_serve.backends.transformers.checkpoint import explained
from llm_serve.backends.transformers.embedding.encoder import Encoder
from llm_serve.backends.transformers.embedding.modules import Pooling, read_json, read_stage
from llm_serve.config import TransformersEngine
from llm_serve.errors import LoadFailed
from llm_serve.models.model_folder import MODULES
from llm_serve.models.precision import pick_device, pick_dtype

_UNUSED = ("pooler.",)
"""Beginnings of the names of weights that nothing here computes with, and may be lacking."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a folder holds, ready to run."""

    encoder: Encoder
    tokenizer: PreTrainedTokenizerBase
    longest: int
    """Tokens of one input at most, special ones included."""
    vocabulary: int
    """How many token ids there are."""
    prompt: str
    """What is put before every text; mostly nothing."""
    lower_case: bool
    """Whether texts are made lower case before all else."""


def load(folder: Path, model_id: str, engine: TransformersEngine) -> Checkpoint:
    """Reads `folder` and nothing else: no hub, no code from the checkpoint, safetensors only.
    Raises LoadFailed."""
    transformers_logging.disable_progress_bar()
    with explained(model_id):
        first, pooling, stages = _parts(folder, model_id)
        own = _transformer_settings(first, model_id)
        model = _model(first, model_id, engine)
        tokenizer = AutoTokenizer.from_pretrained(
            first, local_files_only=True, trust_remote_code=False
        )
        if pooling is None:
            causal = _is_causal(model.config)
            pooling = Pooling(("lasttoken",) if causal else ("mean",))
        pad_id = tokenizer.pad_token_id
        encoder = Encoder(model, pooling, stages, 0 if pad_id is None else int(pad_id))
        return Checkpoint(
            encoder=encoder,
            tokenizer=tokenizer,
            longest=_longest(model, tokenizer, own.get("max_seq_length")),
            vocabulary=int(model.get_input_embeddings().num_embeddings),
            prompt=_prompt(folder, model_id),
            lower_case=bool(own.get("do_lower_case")),
        )


def _parts(folder: Path, model_id: str) -> tuple[Path, Pooling | None, list[nn.Module]]:
    """The folder of the transformer, what pools, and what comes after that, as `modules.json` has
    it. Without one there is no more than the transformer."""
    if not (folder / MODULES).exists():
        return folder, None, []
    listed = json.loads((folder / MODULES).read_bytes())
    parts = [
        (str(one["type"]).rpartition(".")[2], _within(folder, str(one["path"]), model_id))
        for one in listed
    ]
    if [kind for kind, _ in parts[:2]] != ["Transformer", "Pooling"]:
        names = ", ".join(kind for kind, _ in parts)
        raise LoadFailed(
            f"{model_id} is made of {names or 'nothing'}; this backend serves models that begin "
            "with Transformer and Pooling."
        )
    stages = [read_stage(kind, path, model_id) for kind, path in parts[2:]]
    pooling = Pooling.read(parts[1][1], model_id)
    return parts[0][1], pooling, [stage for stage in stages if stage is not None]


def _within(folder: Path, path: str, model_id: str) -> Path:
    given = PurePosixPath(path)
    if given.is_absolute() or ".." in given.parts:
        raise LoadFailed(f"{MODULES} of {model_id} names a folder outside of the model.")
    return folder / given


def _transformer_settings(folder: Path, model_id: str) -> dict[str, Any]:
    """`sentence_bert_config.json`. Raises LoadFailed where it asks for what is not done here."""
    own = read_json(folder / "sentence_bert_config.json")
    task = own.get("transformer_task", "feature-extraction")
    modalities = own.get("modality_config") or {"text": {}}
    text = modalities.get("text") if isinstance(modalities, dict) else None
    output = (text or {}).get("method_output_name", "last_hidden_state")
    if task != "feature-extraction" or text is None or output != "last_hidden_state":
        raise LoadFailed(
            f"{model_id} embeds something else than plain text; this backend embeds texts."
        )
    if "message" in modalities:
        raise LoadFailed(
            f"{model_id} embeds chats through a template; this backend embeds plain texts."
        )
    if own.get("processing_kwargs") or own.get("query_expansion"):
        raise LoadFailed(
            f"{model_id} prepares its texts in a way of its own (processing_kwargs or "
            "query_expansion), which this backend does not know."
        )
    return own


def _model(folder: Path, model_id: str, engine: TransformersEngine) -> PreTrainedModel:
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if config.get_text_config() is not config:
        raise LoadFailed(
            f"{model_id} takes more than text (images or sound); this backend embeds texts."
        )
    encodes = type(config) in MODEL_FOR_TEXT_ENCODING_MAPPING  # T5 without its decoder, for one
    if config.is_encoder_decoder and not encodes:
        raise LoadFailed(
            f"{model_id} is an encoder with a decoder; this backend embeds by one of both."
        )
    config.use_cache = False
    device = pick_device(engine.device)
    model, info = (AutoModelForTextEncoding if encodes else AutoModel).from_pretrained(
        folder,
        config=config,
        dtype=pick_dtype(engine.dtype, device),
        device_map=str(device) if device.type != "cpu" else None,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    missing = [key for key in info["missing_keys"] if not key.startswith(_UNUSED)]
    if wrong := len(missing) + len(info["mismatched_keys"]):
        raise LoadFailed(
            f"The weights of {model_id} are incomplete: {wrong} tensors are missing or have "
            "another shape. Fetch the model again."
        )
    loaded: PreTrainedModel = model.eval()
    return loaded


def _is_causal(config: Any) -> bool:
    names = config.architectures or [""]
    return names[0].endswith("ForCausalLM") and bool(getattr(config, "is_causal", True))


def _longest(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, own: int | None) -> int:
    """The least of what the checkpoint, its tokenizer and its positions allow."""
    limits = [int(own or tokenizer.model_max_length)]
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None and positions > 0:
        limits.append(int(positions) - _positions_left_out(model))
    return min(limits)


def _positions_left_out(model: PreTrainedModel) -> int:
    """Models after RoBERTa count positions from behind their padding id."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return 0 if module.padding_idx is None else module.padding_idx + 1
    return 0


def _prompt(folder: Path, model_id: str) -> str:
    """The prompt by default, of those in `config_sentence_transformers.json`."""
    config = read_json(folder / "config_sentence_transformers.json")
    name = config.get("default_prompt_name")
    if name is None:
        return ""
    prompt = (config.get("prompts") or {}).get(name)
    if not isinstance(prompt, str):
        raise LoadFailed(f"{model_id} names a default prompt {name!r} that it does not have.")
    return prompt
