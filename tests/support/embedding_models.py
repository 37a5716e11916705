"""Small random embedding models, saved by sentence-transformers itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    PreTrainedTokenizerFast,
)

__all__ = ["Dense", "LayerNorm", "Normalize", "Pooling"]  # for those who call `save`
SIZE = 32
_ALL = (
    "the quick brown fox jumps over a lazy dog near river banks while seven wizards quietly mix "
    "vectors of short and long texts into one space where distance means what readers feel"
)
WORDS = _ALL.split()
TEXTS = [
    "a",
    "The quick brown fox.",
    "ÉCOLE, Straße & naïve café — 東京 🦊",
    "  spaces   around \n and\twithin  ",
    *(" ".join(WORDS[(i * 7 + j) % len(WORDS)] for j in range(i)) for i in range(1, 40, 3)),
]
"""Of 1 to some 60 tokens, and never in the order of their lengths."""
TEXTS = TEXTS[::2] + TEXTS[1::2]
TEXT_ALONE = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}


def tokenizer(longest: int = 128) -> PreTrainedTokenizerFast:
    """WordPiece of those words and of letters, with `[CLS]` before a text and `[SEP]` behind."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(code) for code in range(ord("!"), ord("~")) if not chr(code).isupper()]
    pieces = [*names, *letters, *(f"##{letter}" for letter in letters), *sorted(set(WORDS))]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    words = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    words.normalizer = normalizers.BertNormalizer(lowercase=True)
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words.decoder = decoders.WordPiece()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    kinds = ("pad", "unk", "cls", "sep", "mask")
    special = {f"{kind}_token": name for kind, name in zip(kinds, names, strict=True)}
    return PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=longest, **special)


def base(folder: Path, kind: str = "bert", **fields: Any) -> Path:
    """A model without a head, as transformers saves it."""
    if kind == "t5":
        fields |= {"d_model": SIZE, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    return _written(folder, AutoModel, kind, fields)


def ranker(folder: Path, kind: str = "bert", labels: int = 1, **fields: Any) -> Path:
    """One that ranks, as transformers saves it."""
    return _written(
        folder, AutoModelForSequenceClassification, kind, {"num_labels": labels, **fields}
    )


def _written(folder: Path, auto: Any, kind: str, fields: dict[str, Any]) -> Path:
    words = tokenizer()
    sizes: dict[str, Any] = {
        "vocab_size": len(words),
        "hidden_size": SIZE,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 128,
        "pad_token_id": 0,
    }
    torch.manual_seed(7)
    model = auto.from_config(AutoConfig.for_model(kind, **{**sizes, **fields}))
    with torch.no_grad():
        # To a model with transformers' own random weights, which are small, all texts look alike.
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(8)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def save(folder: Path, source: Path, *modules: Any, **settings: Any) -> Path:
    """The model in `source` with these modules behind it; `settings` are of SentenceTransformer."""
    first = Transformer(
        str(source), modality_config=TEXT_ALONE, module_output_name="token_embeddings"
    )
    made = SentenceTransformer(modules=[first, *modules], device="cpu", **settings)
    made.save(str(folder), create_model_card=False)
    return folder


def reference(folder: Path, texts: list[str], **settings: Any) -> Any:
    """What sentence-transformers makes of the texts, in float32: `[texts, size]`."""
    model = SentenceTransformer(
        str(folder), device="cpu", local_files_only=True, model_kwargs={"dtype": "float32"}
    )
    return model.encode(texts, batch_size=5, show_progress_bar=False, **settings)
