"""How each backend runs a model: the section `engine` of one model, by backend."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

BackendName = Literal["transformers", "vllm", "tensorrt_llm", "echo"]
ToolCallParser = Literal[
    "deepseek_v3",
    "deepseek_v31",
    "glm45",
    "glm47",
    "granite",
    "hermes",
    "jamba",
    "lfm2",
    "llama3_json",
    "llama4_json",
    "llama4_pythonic",
    "longcat",
    "mistral",
    "phi4_mini_json",
    "pythonic",
    "qwen3_coder",
    "qwen3_json",
    "qwen3_xml",
    "seed_oss",
]
ReasoningParser = Literal[
    "deepseek_r1", "deepseek_v3", "glm45", "mistral", "olmo3", "qwen3", "seed_oss"
]

VLLM_CPU_CACHE_BYTES = 2 * 2**30
"""vLLM's KV cache on a CPU where `kv_cache_memory_bytes` is not given: vLLM itself would take most
of the host's memory."""


class FrozenModel(BaseModel):
    """A part of the configuration: it does not change, and refuses keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Made anew of the fields that were set: pydantic's own copy has cached properties of the
        original, and checks nothing."""
        fields = {name: getattr(self, name) for name in self.model_fields_set}
        fields |= self.__pydantic_extra__ or {}
        return type(self)(**{**(deepcopy(fields) if deep else fields), **(update or {})})


class TransformersEngine(FrozenModel):
    """How the transformers backend runs a model."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: bfloat16 where the device is fast at it, else float32."
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="auto: CUDA, then MPS, then CPU, whichever is there."
    )
    kv_cache_tokens: int = Field(
        16384,
        ge=256,
        le=16_777_216,
        description="Tokens that the KV cache holds over all requests.",
    )
    max_batch_tokens: int = Field(
        512, ge=64, le=65536, description="Tokens of one forward pass; long prompts are split."
    )
    prefix_cache: bool = Field(
        True, description="What a prompt has in common with earlier ones is not computed again."
    )
    threads: int | None = Field(
        None, ge=1, le=1024, description="CPU threads of the engine; null: all cores."
    )
    tool_call_parser: ToolCallParser | None = Field(
        None, description="How the model writes calls; null: as its chat template shows."
    )
    reasoning_parser: ReasoningParser | None = Field(
        None, description="How the model marks its reasoning; null: as its chat template shows."
    )


class PassThroughEngine(FrozenModel):
    """A section whose keys are the engine's own, which checks them itself: at `llm-serve check`
    and when the model is loaded."""

    model_config = ConfigDict(extra="allow")

    @property
    def arguments(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})

    @property
    def gpus(self) -> int:
        """GPUs of one replica: tensor times pipeline parallel."""
        sizes = [self.arguments.get(f"{kind}_parallel_size") for kind in ("tensor", "pipeline")]
        return math.prod(size for size in sizes if isinstance(size, int) and size > 0)


class TensorrtEngine(PassThroughEngine):
    """Keywords of `tensorrt_llm.LLM`."""


class VllmEngine(PassThroughEngine):
    """vLLM's engine arguments, and those of its server that shape answers (`tool_call_parser`,
    `chat_template`, ...)."""

    @property
    def shapes_answers(self) -> bool:
        """Whether a setting changes how plain answers are made or look, so that vLLM's own server
        must render them."""
        return not _SHAPING.isdisjoint(self.arguments)


class EchoEngine(FrozenModel):
    """How the echo backend behaves; for tests of transport and scheduling."""

    load_s: float = Field(0.0, ge=0, le=3600, description="Seconds that a load takes.")
    load_error: str | None = Field(None, description="A load fails with this reason.")
    exit_on_load: bool = Field(
        False, description="The process exits at the end of the load, as a crash would."
    )
    first_token_s: float = Field(0.0, ge=0, le=3600, description="Seconds before the first token.")
    token_s: float = Field(0.0, ge=0, le=3600, description="Seconds between tokens.")
    fail_after_tokens: int | None = Field(
        None, ge=0, description="Generation raises after so many tokens."
    )
    exit_after_tokens: int | None = Field(
        None, ge=0, description="The process exits after so many tokens, as a crash would."
    )
    context_length: int = Field(8192, ge=16, le=1_048_576, description="Tokens; a word is a token.")
    answers: tuple[str, ...] = Field(
        (),
        description="What it answers in a chat, one text for each of its turns; then it echoes.",
    )
    tool_call_parser: ToolCallParser | None = Field(
        None, description="How the answers write calls; null: as Hermes does."
    )
    reasoning_parser: ReasoningParser | None = Field(
        None, description="How the answers mark reasoning; null: they have none."
    )


_SHAPING = frozenset(
    {
        *("chat_template", "chat_template_content_format", "default_chat_template_kwargs"),
        *("reasoning_parser", "structured_outputs_config", "tokenizer_mode", "response_role"),
        *("return_tokens_as_token_ids", "enable_force_include_usage"),
        *("enable_per_request_metrics", "override_generation_config"),
    }
)

EngineSection = TransformersEngine | VllmEngine | TensorrtEngine | EchoEngine
ENGINES: dict[str, type[EngineSection]] = {
    "transformers": TransformersEngine,
    "vllm": VllmEngine,
    "tensorrt_llm": TensorrtEngine,
    "echo": EchoEngine,
}
