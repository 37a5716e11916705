"""The clients, and what of each is tried on which backend."""

from __future__ import annotations

from dataclasses import dataclass


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_RESPONSES = "responses responses_stream responses_tools responses_schema"
_MESSAGES = "messages messages_stream messages_tools messages_schema count_tokens"
TRANSFORMERS, VLLM, SCRIPTED = "transformers", "vllm", "scripted"
BACKENDS = {TRANSFORMERS: "T", VLLM: "V", SCRIPTED: "S"}
"""How the table of the README writes them. The scripted model is one of the echo backend whose
first answer is a call of `weather`, and which then repeats what the tool said."""

COLUMNS = {
    "chat": _words("chat developer"),
    "stream": _words("stream"),
    "tools": _words("tools tools_stream tools_loop"),
    "schema": _words("schema schema_native schema_object schema_json schema_tool schema_stream"),
    "Responses": _words(_RESPONSES),
    "Messages": _words(_MESSAGES),
    "embeddings": _words("embeddings"),
    "cold model": _words("cold cold_stream cold_responses"),
    "switch": _words("switch"),
}
"""The features of each column of that table."""


@dataclass(frozen=True)
class Client:
    """A package, and its program in `programs/`; an agent has none."""

    name: str
    program: str | None
    features: tuple[str, ...]
    """Those that are tried on a real model."""
    scripted: tuple[str, ...] = ()
    """Where the model chooses whether to call a tool, which a small one does not."""
    npm: str | None = None
    """Its name there."""


CLIENTS = (
    Client(
        "openai",
        "openai_python.py",
        _words(
            f"chat developer stream tools tools_stream schema schema_json {_RESPONSES} embeddings"
            " cold cold_stream cold_responses switch"
        ),
    ),
    Client(
        "langchain-openai",
        "langchain_openai_.py",
        _words(
            "chat stream tools schema schema_tool schema_stream responses responses_stream"
            " responses_tools embeddings cold switch"
        ),
    ),
    Client(
        "pydantic-ai-slim",
        "pydantic_ai_.py",
        _words(
            "chat stream schema schema_native responses responses_stream responses_schema"
            " embeddings cold switch"
        ),
        _words("tools responses_tools"),
    ),
    Client(
        "instructor",
        "instructor_.py",
        _words("chat schema schema_json schema_stream responses_schema cold switch"),
    ),
    Client(
        "openai-agents",
        "openai_agents_.py",
        _words(f"chat stream tools schema {_RESPONSES} cold cold_responses switch"),
    ),
    Client(
        "litellm",
        "litellm_.py",
        _words("chat stream tools schema responses messages embeddings cold switch"),
    ),
    Client("llm", "llm_.py", _words("chat stream schema cold switch"), _words("tools")),
    Client("smolagents", "smolagents_.py", _words("chat stream tools cold switch")),
    Client("anthropic", "anthropic_python.py", _words(f"{_MESSAGES} cold switch")),
    Client(
        "openai (npm)",
        "openai_npm.mjs",
        _words(
            f"chat developer stream tools schema {_RESPONSES} embeddings"
            " cold cold_stream cold_responses switch"
        ),
        _words("tools_loop"),
        npm="openai",
    ),
    Client(
        "@ai-sdk/openai-compatible",
        "ai_sdk.mjs",
        _words(
            "chat stream tools tools_stream schema schema_object embeddings cold cold_stream switch"
        ),
        _words("tools_loop"),
        npm="@ai-sdk/openai-compatible",
    ),
    Client(
        "@anthropic-ai/sdk",
        "anthropic_npm.mjs",
        _words(f"{_MESSAGES} cold switch"),
        npm="@anthropic-ai/sdk",
    ),
    Client("Codex CLI", None, (), _words("responses_tools cold switch"), npm="@openai/codex"),
    Client(
        "Claude Code",
        None,
        (),
        _words("messages_tools cold switch"),
        npm="@anthropic-ai/claude-code",
    ),
)
ONE_MODEL_IS_ENOUGH = frozenset(
    (*COLUMNS["embeddings"], *COLUMNS["cold model"], *COLUMNS["switch"])
)
"""Not tried on vLLM, where they are the same; its own load, though, is what each client's first
request there waits for."""


@dataclass(frozen=True)
class Cell:
    """One thing that is tried."""

    client: str
    feature: str
    backend: str

    def __str__(self) -> str:
        return f"{self.client}-{self.feature}-{self.backend}"


def cells() -> list[Cell]:
    """In the order in which they are tried."""
    found = []
    for client in CLIENTS:
        for feature in client.features:
            found.append(Cell(client.name, feature, TRANSFORMERS))
            if feature not in ONE_MODEL_IS_ENOUGH:
                found.append(Cell(client.name, feature, VLLM))
        found += [Cell(client.name, feature, SCRIPTED) for feature in client.scripted]
    return found


def column_of(feature: str) -> str:
    return next(column for column, features in COLUMNS.items() if feature in features)
