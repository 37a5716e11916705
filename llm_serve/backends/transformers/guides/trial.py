"""Compiles grammars on trial, in a process that may be killed over one.

    python -P trial.py

A few bytes can ask for any amount of work: `{"type": "integer", "multipleOf": 99999989}` keeps the
compiler busy for hours, and nothing can stop a thread. So each grammar is compiled in a child of
this process first, which the kernel ends where it takes more than `CPU_S`, `WALL_S` or `SPACE`.
What is left of memory is known afterwards, too.

The first line of stdin is the vocabulary, each later one a guide, as JSON; each is answered by a
line of stdout: `{"grammar", "bytes"}`, where the compiler's own input can be compiled again, or
`{"refused": reason}`, or `{"killed": true}`, or `{"late": true}` where the machine was too busy to
tell. The process ends with its stdin.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, grammar_from, regex_to_lark

CPU_S = 2
WALL_S = 20
SPACE = 2**30
"""Bytes of address space beyond those of the vocabulary and of Python."""
TOUCHED = 6 * 2**20
"""Bytes that any compilation writes to in a process that was forked."""
JSON_OPTIONS = {
    "whitespace_flexible": False,
    "item_separator": ", ?",
    "key_separator": ": ?",
    "coerce_one_of": False,
    "lenient": False,
}
"""At most one space, after a comma and after a colon: a small model that may put white space
wherever JSON allows it can go on with it until its tokens are spent. What cannot be held to is an
error; `oneOf` is held to where no value can match two of its schemas."""
LIMITS = LLParserLimits(
    initial_lexer_fuel=1_000_000,
    step_lexer_fuel=100_000,
    step_max_items=20_000,
    max_lexer_states=20_000,
    max_grammar_size=200_000,
    verbose_errors=False,
)
"""A mask stops being computed after some 8 ms; the states of a lexer take 1 to 2 kB each."""


def tokenizer(serialized: str, vocabulary: int, eos: list[int]) -> LLTokenizer:
    """The compiler's view of `serialized`, a tokenizer.json; of a model with so many logits. Holds
    the interpreter's lock for 0.2 s with 49,152 tokens."""
    return LLTokenizer(serialized, n_vocab=vocabulary, eos_token=eos)


def compiled(vocabulary: LLTokenizer, grammar: str) -> LLMatcher:
    """Its first state. Raises ValueError with the compiler's reason."""
    matcher = LLMatcher(vocabulary, grammar, log_level=0, limits=LIMITS)
    if not matcher.is_error():
        matcher.compute_bitmask()  # some find out here
    if matcher.is_error():
        raise ValueError(matcher.get_error())
    return matcher


def grammar_of(kind: str, text: str, after: str, after_token: int | None) -> str:
    """A guide as the compiler reads it. `after_token`: the id of `after`, where it is a special
    token. Raises ValueError."""
    body = _body(kind, text)
    if not after:
        return json.dumps({"grammars": [body]})
    # Models put up to two line ends between their reasoning and their answer.
    if after_token is not None:
        begin = rf"start: /(?s:.*)/ <[{after_token}]> /[ \n]{{0,2}}/ @wanted"
    else:
        # As JSON a text is a text of Lark, too.
        begin = (
            "start: free space @wanted\n"
            f"free[suffix={json.dumps(after, ensure_ascii=False)}]: /(?s:.*)/\n"
            r"space: /[ \n]{0,2}/"
        )
    return json.dumps({"grammars": [{"lark_grammar": begin}, {"name": "wanted", **body}]})


def _body(kind: str, text: str) -> dict[str, Any]:
    match kind:
        case "json_object":
            return {"json_schema": {"type": "object", "x-guidance": JSON_OPTIONS}}
        case "json_schema":
            schema = json.loads(text)
            if schema is True:
                schema = {}
            if isinstance(schema, dict) and "x-guidance" not in schema:
                return {"json_schema": {**schema, "x-guidance": JSON_OPTIONS}}
            raise ValueError("It should be an object, or true, without x-guidance.")
        case "regex":
            return {"lark_grammar": f"start: /{regex_to_lark(text)}/"}
        case "grammar":
            return {"lark_grammar": grammar_from("grammar", text)}
        case "lark":
            return {"lark_grammar": text}
    raise ValueError(f"There are no guides of the kind {kind}.")


def _try(vocabulary: LLTokenizer, guide: dict[str, Any]) -> dict[str, Any]:
    _, before = _held()
    try:
        grammar = grammar_of(**guide)
        matcher = compiled(vocabulary, grammar)
    except RecursionError:
        return {"refused": "It nests too deeply."}
    except ValueError as error:
        return {"refused": str(error)}
    _, after = _held()
    del matcher  # until here it was to be there
    return {"grammar": grammar, "bytes": max(0, after - before - TOUCHED)}


def _held() -> tuple[int, int]:
    """Bytes of this process: of its address space, and resident."""
    space, resident, *_ = Path("/proc/self/statm").read_text().split()
    page = resource.getpagesize()
    return int(space) * page, int(resident) * page


def _answer(vocabulary: LLTokenizer, line: bytes) -> None:
    """Compiles in a child; says of one that was killed that it was."""
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
        space = _held()[0] + SPACE
        resource.setrlimit(resource.RLIMIT_AS, (space, space))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.alarm(WALL_S)
        status = 1
        try:
            answer = json.dumps(_try(vocabulary, json.loads(line)))
            signal.alarm(0)
            sys.stdout.write(answer + "\n")
            sys.stdout.flush()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if status != 0:
        late = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM
        sys.stdout.write('{"late": true}\n' if late else '{"killed": true}\n')
        sys.stdout.flush()


def main() -> None:
    os.nice(10)  # what runs goes before what comes
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends with the server, not before
    lines = sys.stdin.buffer
    vocabulary = tokenizer(**json.loads(lines.readline()))
    while line := lines.readline():
        _answer(vocabulary, line)


if __name__ == "__main__":
    main()
