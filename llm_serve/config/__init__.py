"""The configuration: one tree (`tree`, with `models` and `engines` below it), the files that hold
it, and what is said about a wrong one. Imports no engine and no Ray."""

from llm_serve.config.engines import (
    VLLM_CPU_CACHE_BYTES,
    BackendName,
    EchoEngine,
    EngineSection,
    PassThroughEngine,
    TensorrtEngine,
    TransformersEngine,
    VllmEngine,
)
from llm_serve.config.models import AdapterConfig, Kind, ModelConfig, SamplingDefaults
from llm_serve.config.tree import (
    DEFAULT_HOST,
    DEFAULT_MODEL,
    DEFAULT_PORT,
    DEFAULT_SOURCE,
    ColdStart,
    Config,
    Residency,
    ServerConfig,
    default_config,
)

__all__ = [
    "DEFAULT_HOST",
    "DEFAULT_MODEL",
    "DEFAULT_PORT",
    "DEFAULT_SOURCE",
    "VLLM_CPU_CACHE_BYTES",
    "AdapterConfig",
    "BackendName",
    "ColdStart",
    "Config",
    "EchoEngine",
    "EngineSection",
    "Kind",
    "ModelConfig",
    "PassThroughEngine",
    "Residency",
    "SamplingDefaults",
    "ServerConfig",
    "TensorrtEngine",
    "TransformersEngine",
    "VllmEngine",
    "default_config",
]
