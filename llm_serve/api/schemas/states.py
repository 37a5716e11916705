"""What is answered about models and the server, and the errors of all routes: see `answers`."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from llm_serve.status import ModelState, ServerState

Count = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0)]


@with_config(ConfigDict(extra="forbid", strict=True))
class Closed(TypedDict):
    """An object that has the members named here and no others."""


@with_config(ConfigDict(extra="allow", strict=True))
class Open(TypedDict):
    """An object to which the engine's own server may add members."""


class ModelLoad(Closed):
    """Where the load of a model stands: the guide's 202."""

    object: Literal["model.load"]
    status: Literal["spinning_up"]
    model: str
    current_model: str | None
    retry_after_seconds: Annotated[int, Field(ge=1)]
    eta_seconds: Seconds | None
    stage: str | None
    progress: Fraction | None
    position: Count | None


class Error(Closed):
    """What was wrong, for a person and for a program."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorResponse(Closed):
    """Every answer of status 400 and above, and the frame of a stream that failed midway."""

    error: Error
    loading: NotRequired[ModelLoad]


class Limits(Closed):
    """How many sequences one replica runs at once, and how many wait."""

    max_running: Count
    max_queued: Count


class ModelObject(Closed):
    """One allowlisted model, or an adapter of one, and how it stands."""

    id: str
    object: Literal["model"]
    created: Count
    owned_by: str
    status: ModelState
    loaded: bool
    pinned: bool
    replicas: Count
    default: bool
    backend: str
    capabilities: dict[str, bool]
    limits: Limits
    running: Count
    queued: Count
    parent: NotRequired[str]
    untried: NotRequired[str]
    engine_details: NotRequired[dict[str, str]]
    context_length: NotRequired[Count]
    footprint_bytes: NotRequired[Count]
    dtype: NotRequired[str]
    device: NotRequired[str]
    engine_version: NotRequired[str]
    load_stage: NotRequired[str | None]
    load_progress: NotRequired[Fraction | None]
    position: NotRequired[Count | None]
    eta_seconds: NotRequired[Seconds | None]
    last_error: NotRequired[str]
    retry_in_seconds: NotRequired[Seconds]


class ModelList(Closed):
    """The allowlist, in the order of the configuration, each model's adapters behind it."""

    object: Literal["list"]
    data: list[ModelObject]


class Health(Closed):
    """How the server is; `model_id` is the default model, and `loaded` is about it."""

    status: ServerState
    loaded: bool
    model_id: str
    inference_backend: str
    queue_depth: Count
    running: Count
    switch_in_progress: bool
    switch_target_model: str | None
    load_model: NotRequired[str]
    load_stage: NotRequired[str | None]
    load_progress: NotRequired[Fraction | None]
    load_eta_seconds: NotRequired[Seconds | None]
    failed_models: NotRequired[list[str]]


class StateEvent(Closed):
    """One frame of `/v1/events`: the server, and each model that changed."""

    object: Literal["event"]
    server: Health
    models: list[ModelObject]
