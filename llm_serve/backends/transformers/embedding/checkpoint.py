"""A folder of an embedding model, or of one that ranks, becomes an encoder and its tokenizer, or a
sentence that says why not.

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
    AutoModelForSequenceClassification,
    AutoModelForTextEncoding,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from llm_serve.backends.transformers.checkpoint import explained
from llm_serve.backends.transformers.embedding.encoder import Encoder, Ranker
from llm_serve.backends.transformers.embedding.modules import (
    Pooling,
    activation_of,
    read_json,
    read_stage,
)
from llm_serve.config import TransformersEngine
from llm_serve.errors import LoadFailed
from llm_serve.models.model_folder import MODULES
from llm_serve.models.precision import pick_device, pick_dtype

_UNUSED = ("pooler.",)
"""Beginnings of the names of weights that nothing here computes with, and may be lacking."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a folder holds, ready to run."""

    encoder: Encoder | Ranker
    tokenizer: PreTrainedTokenizerBase
    longest: int
    """Tokens of one input at most, special ones included."""
    vocabulary: int
    """How many token ids there are."""
    prompt: str
    """What is put before every text; mostly nothing."""
    lower_case: bool
    """Whether texts are made lower case before all else."""


def load(
    folder: Path, model_id: str, engine: TransformersEngine, *, ranks: bool = False
) -> Checkpoint:
    """Reads `folder` and nothing else: no hub, no code from the checkpoint, safetensors only.
    Raises LoadFailed. `ranks`: it is a model that ranks."""
    transformers_logging.disable_progress_bar()
    with explained(model_id):
        first, pooling, stages = _parts(folder, model_id, ranks)
        own = _transformer_settings(first, model_id, ranks)
        model = _model(first, model_id, engine, ranks)
        tokenizer = AutoTokenizer.from_pretrained(
            first, local_files_only=True, trust_remote_code=False
        )
        pad_id = 0 if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)
        encoder: Encoder | Ranker
        prompt = _prompt(folder, model_id)
        if ranks and prompt:
            raise LoadFailed(f"{model_id} ranks behind a prompt, which this backend does not do.")
        if ranks:
            encoder = Ranker(model, _scoring(folder, model, model_id), pad_id)
        else:
            if pooling is None:
                pooling = Pooling(("lasttoken",) if _is_causal(model.config) else ("mean",))
            encoder = Encoder(model, pooling, stages, pad_id)
        return Checkpoint(
            encoder=encoder,
            tokenizer=tokenizer,
            longest=_longest(model, tokenizer, own.get("max_seq_length")),
            vocabulary=int(model.get_input_embeddings().num_embeddings),
            prompt=prompt,
            lower_case=bool(own.get("do_lower_case")),
        )


def _parts(
    folder: Path, model_id: str, ranks: bool
) -> tuple[Path, Pooling | None, list[nn.Module]]:
    """The folder of the transformer, what pools, and what comes after that, as `modules.json` has
    it. Without one there is no more than the transformer."""
    if not (folder / MODULES).exists():
        return folder, None, []
    listed = json.loads((folder / MODULES).read_bytes())
    parts = [
        (str(one["type"]).rpartition(".")[2], _within(folder, str(one["path"]), model_id))
        for one in listed
    ]
    names = ", ".join(kind for kind, _ in parts)
    if ranks:
        if names == "Transformer":
            return parts[0][1], None, []
        raise LoadFailed(
            f"{model_id} is made of {names or 'nothing'}; of models that rank, this backend serves "
            "those that are a Transformer alone."
        )
    if [kind for kind, _ in parts[:2]] != ["Transformer", "Pooling"]:
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


def _transformer_settings(folder: Path, model_id: str, ranks: bool) -> dict[str, Any]:
    """`sentence_bert_config.json`. Raises LoadFailed where it asks for what is not done here."""
    own = read_json(folder / "sentence_bert_config.json")
    wanted = "sequence-classification" if ranks else "feature-extraction"
    made = "logits" if ranks else "last_hidden_state"
    modalities = own.get("modality_config") or {"text": {}}
    text = modalities.get("text") if isinstance(modalities, dict) else None
    output = (text or {}).get("method_output_name", made)
    if own.get("transformer_task", wanted) != wanted or text is None or output != made:
        raise LoadFailed(
            f"{model_id} reads something else than plain text, or makes something else of it than "
            f"{'scores' if ranks else 'vectors'}; this backend has no use for it."
        )
    if "message" in modalities:
        raise LoadFailed(
            f"{model_id} reads texts through a chat template; this backend reads them plainly."
        )
    if own.get("processing_kwargs") or own.get("query_expansion"):
        raise LoadFailed(
            f"{model_id} prepares its texts in a way of its own (processing_kwargs or "
            "query_expansion), which this backend does not know."
        )
    return own


def _model(folder: Path, model_id: str, engine: TransformersEngine, ranks: bool) -> PreTrainedModel:
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if config.get_text_config() is not config:
        raise LoadFailed(
            f"{model_id} takes more than text (images or sound); this backend embeds texts."
        )
    if ranks and config.num_labels != 1:
        raise LoadFailed(
            f"{model_id} tells {config.num_labels} classes apart; a model that ranks has one."
        )
    encodes = type(config) in MODEL_FOR_TEXT_ENCODING_MAPPING  # T5 without its decoder, for one
    if config.is_encoder_decoder and (ranks or not encodes):
        raise LoadFailed(
            f"{model_id} is an encoder with a decoder; this backend embeds by one of both."
        )
    config.use_cache = False
    device = pick_device(engine.device)
    auto = AutoModelForTextEncoding if encodes else AutoModel
    model, info = (AutoModelForSequenceClassification if ranks else auto).from_pretrained(
        folder,
        config=config,
        dtype=pick_dtype(engine.dtype, device),
        device_map=str(device) if device.type != "cpu" else None,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    unused = () if ranks else _UNUSED
    missing = [key for key in info["missing_keys"] if not key.startswith(unused)]
    if wrong := len(missing) + len(info["mismatched_keys"]):
        raise LoadFailed(
            f"The weights of {model_id} are incomplete: {wrong} tensors are missing or have "
            "another shape. Fetch the model again."
        )
    loaded: PreTrainedModel = model.eval()
    return loaded


def _scoring(folder: Path, model: PreTrainedModel, model_id: str) -> nn.Module:
    """What makes a score of the number that the model gives; a sigmoid, unless the checkpoint names
    another function."""
    own = read_json(folder / "config_sentence_transformers.json").get("activation_fn")
    former = getattr(model.config, "sentence_transformers", None) or {}
    name = own or former.get("activation_fn")
    name = name or getattr(model.config, "sbert_ce_default_activation_function", None)
    return activation_of(name or "torch.nn.Sigmoid", model_id)


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
