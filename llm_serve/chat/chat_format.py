"""How one model is told of functions and of reasoning, and how it writes them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from llm_serve.chat.answer import Answer, AnswerParser
from llm_serve.chat.formats import PLAIN, TOOL_PARSERS, Functions, ListOr
from llm_serve.chat.guides import guide_by_grammar, guide_by_schema
from llm_serve.chat.reasoning import REASONING_PARSERS, ReasoningMarks, in_template
from llm_serve.chat.rendering import Rendering
from llm_serve.chat.source import Reading, Source
from llm_serve.chat.templates import renders_tools, tool_parser_of
from llm_serve.errors import InvalidRequest, LoadFailed
from llm_serve.sampling import Conversation, Guide, Tools


@dataclass(frozen=True)
class ChatFormat:
    """One model's way of writing; made once for each loaded model."""

    tool_parser: str = PLAIN
    """The format of its calls, by vLLM's name."""
    knows_tools: bool = False
    """Whether its template renders tools; they are rendered plainly, as a system message, else."""
    special_tokens: bool = False
    """Whether calls or reasoning are marked by tokens that are left out of an engine's text, unless
    `Sampling.special_tokens` asks for them."""
    grammars: bool = True
    """Whether the engine takes guides of the kind `lark`; else required calls are a JSON list."""
    _template: str = ""
    _marks: ReasoningMarks | None = None
    _tokens: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        template: str | None,
        tool_call_parser: str | None = None,
        reasoning_parser: str | None = None,
        *,
        tokens: Mapping[str, int] | None = None,
        special: Collection[str] = (),
        grammars: bool = True,
    ) -> ChatFormat:
        """What a chat template shows, but for what the two names (vLLM's) say.

        `tokens` are the texts that the tokenizer has as one token each, with their ids, beside its
        vocabulary; `special` are those of them that are left out of decoded text.

        Raises LoadFailed for a name that is not known.
        """
        template = template or ""
        renders = renders_tools(template)
        shown = tool_parser_of(template) if renders else None
        tool_parser = tool_call_parser or shown or PLAIN
        if tool_parser not in TOOL_PARSERS:
            raise LoadFailed(_unknown("tool_call_parser", tool_parser, TOOL_PARSERS))
        if reasoning_parser is not None and reasoning_parser not in REASONING_PARSERS:
            raise LoadFailed(_unknown("reasoning_parser", reasoning_parser, REASONING_PARSERS))
        if template and not renders and tool_parser != PLAIN:
            raise LoadFailed(
                f"tool_call_parser {tool_parser} needs a chat template that tells the model of "
                "tools, and the template of this model does not: leave tool_call_parser out."
            )
        marks = REASONING_PARSERS[reasoning_parser] if reasoning_parser else in_template(template)
        texts = TOOL_PARSERS[tool_parser].marks
        if marks is not None:
            texts += (marks.begin, marks.end)
        return cls(
            tool_parser=tool_parser,
            knows_tools=renders and (shown or tool_call_parser) is not None,
            special_tokens=not set(texts).isdisjoint(special),
            grammars=grammars,
            _template=template,
            _marks=marks,
            _tokens={text: tokens[text] for text in texts if tokens and text in tokens},
        )

    @property
    def reasoning(self) -> bool:
        """Whether the model reasons before it answers, or can."""
        return self._marks is not None

    def render(self, apply: Callable[..., str], conversation: Conversation) -> str:
        """The prompt. `apply` renders messages, and `tools` and more variables by name, through the
        template. Raises InvalidRequest where the template takes the messages in no form."""
        try:
            return Rendering(self._template, self.knows_tools).render(apply, conversation)
        except RecursionError:
            raise InvalidRequest(
                "The messages nest too deeply: most likely the arguments of a call.",
                param="messages",
            ) from None

    def within_reasoning(self, prompt: str) -> bool:
        """Whether the prompt ends where the model is to reason."""
        return self._marks is not None and prompt.rstrip().endswith(self._marks.begin)

    def guide(self, tools: Tools | None, wanted: Guide | None, reasoning: bool) -> Guide | None:
        """What holds the answer to the calls that are demanded, and to `wanted`, the format of a
        response. None where the text is free. `reasoning`: the prompt ends within it."""
        functions = _functions(tools)
        must_call = tools is not None and tools.forced
        parallel = tools is not None and tools.parallel and tools.choice != "named"
        if not self.grammars:
            guide = guide_by_schema(functions, wanted, must_call=must_call, parallel=parallel)
        else:
            guide = guide_by_grammar(
                TOOL_PARSERS[self.tool_parser],
                functions,
                wanted,
                self._tokens,
                marks=None if reasoning else self._marks,
                must_call=must_call,
                parallel=parallel,
            )
        if guide is None or self._marks is None or not reasoning:
            return guide
        return replace(guide, after=self._marks.end)

    def parser(self, tools: Tools | None, reasoning: bool) -> AnswerParser | None:
        """Takes one answer apart; None where all of it is text. `reasoning`: the prompt ends
        within it."""
        functions = _functions(tools)
        if not functions and self._marks is None:
            return None
        return AnswerParser(partial(self._read, functions, reasoning))

    def _read(
        self, functions: Functions, reasoning: bool, source: Source, answer: Answer
    ) -> Reading[None]:
        if self._marks is not None:
            yield from self._marks.read(source, answer, inside=reasoning)
        if functions:
            form = TOOL_PARSERS[self.tool_parser]
            form = form if self.grammars else ListOr(form)
            yield from form.read(source, answer, functions)
        else:
            yield from source.rest(answer.text)


def _functions(tools: Tools | None) -> Functions:
    """Those that may be called, by name."""
    if tools is None or tools.choice == "none":
        return {}
    functions = {function["name"]: function for function in tools.functions}
    if tools.choice != "named":
        return functions
    if tools.name is None or tools.name not in functions:
        raise InvalidRequest(
            f"tool_choice names {tools.name}, which is not among the tools.", param="tool_choice"
        )
    return {tools.name: functions[tools.name]}


def _unknown(key: str, name: str, known: Iterable[str]) -> str:
    return f"{key} {name} is not known; it may be one of {', '.join(sorted(known))}."
