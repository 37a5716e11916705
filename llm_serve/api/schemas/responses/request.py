"""The body of `POST /v1/responses`.

A field that has no effect here (an identifier, a hint to a cache) is accepted and says so; one that
asks for what cannot be done is refused by name. Nothing is ignored but this: a `web_search` tool,
which some clients (Codex CLI) send always and which a model may leave unused anyway. The answer
lists the tools that the model was given, and that is not among them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from llm_serve.api.schemas.chat.tools import FunctionName, Parameters
from llm_serve.api.schemas.responses.items import ITEM_BRANCHES, Id, Items, Name, tag_of
from llm_serve.api.schemas.values import (
    BRANCHES,
    JSON,
    SCHEMA,
    TEXT,
    Body,
    Few,
    FewKeys,
    Off,
    TextOrList,
    by_type,
)

UNSUPPORTED = frozenset(
    {
        *("access_programs", "background", "background_options", "context_management"),
        *("conversation", "image", "moderation", "prompt", "prompt_cache_options", "truncation"),
        *("allowed_callers", "async", "caller", "defer_loading", "include_obfuscation"),
        *("chat_template_kwargs", "frequency_penalty", "ignore_eos", "logit_bias", "min_p", "n"),
        *(
            "presence_penalty",
            "repetition_penalty",
            "seed",
            "service_tier",
            "stop",
            "structured_outputs",
            "top_k",
            "verbosity",
        ),
    }
)
"""Fields that OpenAI or an engine has: refused as what cannot be done here, not as unknown."""


class FunctionTool(Body):
    """A function that the model may call; `parameters` is a JSON Schema."""

    type: Literal["function"]
    name: FunctionName
    description: str | None = None
    parameters: Parameters | None = None
    strict: bool | None = None
    output_schema: dict[str, Any] | None = Field(None, description="Accepted; has no effect.")
    defer_loading: Off = False


class AnyText(Body):
    """Any text."""

    type: Literal["text"]


class GrammarFormat(Body):
    """A text of a grammar. It is told to the model, which is not held to it."""

    type: Literal["grammar"]
    syntax: Literal["lark", "regex"]
    definition: str


class CustomTool(Body):
    """A tool that the model gives a text, in place of JSON."""

    type: Literal["custom"]
    name: FunctionName
    description: str | None = None
    format: (
        Annotated[
            Annotated[AnyText, TEXT] | Annotated[GrammarFormat, Tag("(grammar)")],
            Discriminator(
                lambda form: tag_of(form, "text", "grammar"),
                custom_error_type="format_type",
                custom_error_message="type should be 'text' or 'grammar'",
            ),
        ]
        | None
    ) = None
    defer_loading: Off = False


def _by_tool(tool: Any) -> str | None:
    kind = tool.get("type") if isinstance(tool, dict) else getattr(tool, "type", None)
    if isinstance(kind, str) and kind.startswith("web_search"):
        return "(web_search)"
    return tag_of(tool, "function", "custom", "namespace")


NamespacedTool = Annotated[
    Annotated[FunctionTool, Tag("(function)")] | Annotated[CustomTool, Tag("(custom)")],
    Discriminator(
        lambda tool: tag_of(tool, "function", "custom"),
        custom_error_type="other_type",
        custom_error_message="type should be 'function' or 'custom'",
    ),
]


class Namespace(Body):
    """Tools under a common name."""

    type: Literal["namespace"]
    name: FunctionName
    description: str
    tools: Annotated[Few[list[NamespacedTool]], Field(min_length=1)]


class WebSearch(BaseModel):
    """Accepted and not given to the model: nothing here searches the web."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    type: Literal[
        "web_search", "web_search_2025_08_26", "web_search_preview", "web_search_preview_2025_03_11"
    ]


AnyTool = Annotated[
    Annotated[FunctionTool, Tag("(function)")]
    | Annotated[CustomTool, Tag("(custom)")]
    | Annotated[Namespace, Tag("(namespace)")]
    | Annotated[WebSearch, Tag("(web_search)")],
    Discriminator(
        _by_tool,
        custom_error_type="other_type",
        custom_error_message="type should be 'function', 'custom' or 'namespace'; "
        "tools that OpenAI runs on its own machines are not run here",
    ),
]


class ChosenTool(Body):
    """The tool that is to be called."""

    type: Literal["function", "custom"]
    name: Name


class AllowedToolChoice(Body):
    """The tools of `tools` that may be called this time."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[Few[list[ChosenTool]], Field(min_length=1)]


def _by_choice(choice: Any) -> str:
    if isinstance(choice, str):
        return TEXT.tag
    return "(allowed)" if tag_of(choice, "allowed_tools") else "(tool)"


Choice = Annotated[
    Annotated[Literal["none", "auto", "required"], TEXT]
    | Annotated[ChosenTool, Tag("(tool)")]
    | Annotated[AllowedToolChoice, Tag("(allowed)")],
    Discriminator(_by_choice),
]


class AnyJson(Body):
    """A JSON object."""

    type: Literal["json_object"]


class NamedSchema(Body):
    """JSON that a schema allows."""

    type: Literal["json_schema"]
    name: str
    schema_: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


AnyFormat = Annotated[
    Annotated[AnyText, TEXT] | Annotated[AnyJson, JSON] | Annotated[NamedSchema, SCHEMA],
    Discriminator(
        by_type,
        custom_error_type="format_type",
        custom_error_message="type should be 'text', 'json_object' or 'json_schema'",
    ),
]


class TextOptions(Body):
    """What the text of the answer is to be."""

    format: AnyFormat | None = None
    verbosity: Literal["medium"] | None = None


class ReasoningOptions(Body):
    """How the model is to think. What it thought is answered whole, and never summed up."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: Literal["auto", "concise", "detailed", "none"] | None = Field(
        None, description="Accepted; the answer has the reasoning itself, and no summary."
    )
    generate_summary: Literal["auto", "concise", "detailed"] | None = Field(
        None, description="The former name of `summary`."
    )
    context: Literal["auto", "current_turn", "all_turns"] | None = Field(
        None, description="Accepted; the chat template decides what it shows of earlier reasoning."
    )


class ResponseStreamOptions(Body):
    """What a stream says besides the answer."""

    include_obfuscation: Off = False


Includable = Literal[
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
]
NO_EFFECT = "Accepted; has no effect."


class ResponsesRequest(Body):
    """The body of `POST /v1/responses`."""

    model: str | None = Field(None, description="A model of `/v1/models`; left out: the first.")
    input: TextOrList[str, Annotated[Items, Field(min_length=1)]]
    instructions: str | None = None
    previous_response_id: Id | None = Field(
        None, description="Of a stored response, whose conversation goes on."
    )
    store: bool = Field(True, description="Kept for a while, so that the conversation may go on.")
    stream: bool = False
    stream_options: ResponseStreamOptions | None = None
    tools: Few[list[AnyTool]] | None = None
    tool_choice: Choice = "auto"
    parallel_tool_calls: bool = True
    max_tool_calls: int | None = Field(
        None, ge=1, description="Of tools that the server runs, of which there are none."
    )
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    max_output_tokens: int | None = Field(
        None, ge=1, le=2**31 - 1, description="Cut to what the context leaves."
    )
    top_logprobs: int | None = Field(None, ge=0, le=20)
    include: Few[list[Includable]] | None = Field(
        None,
        description="`message.output_text.logprobs` adds them; the others ask for what no answer "
        "here has, and reasoning is in the answer as it is.",
    )
    truncation: Literal["disabled"] | None = None
    service_tier: Literal["auto", "default"] | None = None
    background: Off = False
    metadata: Annotated[FewKeys[str], Field(max_length=16)] | None = None
    client_metadata: FewKeys[Any] | None = Field(None, description=NO_EFFECT)
    user: str | None = Field(None, description=NO_EFFECT)
    safety_identifier: str | None = Field(None, description=NO_EFFECT)
    prompt_cache_key: str | None = Field(None, description=NO_EFFECT)
    prompt_cache_retention: Literal["in_memory", "in-memory", "24h"] | None = Field(
        None, description=NO_EFFECT
    )


class EngineResponsesRequest(ResponsesRequest):
    """The same with vLLM's own fields, which vLLM checks."""

    top_k: Any = None
    min_p: Any = None
    seed: Any = None
    stop: Any = None
    stop_token_ids: Any = None
    ignore_eos: Any = None
    logit_bias: Any = None
    presence_penalty: Any = None
    frequency_penalty: Any = None
    repetition_penalty: Any = None
    skip_special_tokens: Any = None
    include_stop_str_in_output: Any = None
    structured_outputs: Any = None
    chat_template_kwargs: Any = None
    mm_processor_kwargs: Any = None
    media_io_kwargs: Any = None
    priority: Any = None
    cache_salt: Any = None


ENGINE_FIELDS = frozenset(EngineResponsesRequest.model_fields) - set(ResponsesRequest.model_fields)
RESPONSE_BRANCHES = (
    BRANCHES
    | ITEM_BRANCHES
    | {
        *(
            "(tool)",
            "(function)",
            "(custom)",
            "(namespace)",
            "(web_search)",
            "(allowed)",
            "(grammar)",
        )
    }
)
"""Parts of an error's location that are no field."""
