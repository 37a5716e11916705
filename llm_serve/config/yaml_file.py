"""A YAML file whose errors have a line: duplicate keys, syntax, and where a value stands.

`deployments.machine.config_file` reads configuration files through it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Never

import yaml
from yaml.reader import ReaderError

Loc = tuple[int | str, ...]
_DATE = "tag:yaml.org,2002:timestamp"
DEEPEST = 64
MOST = 100_000


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong with a file. `line` counts from 1."""

    line: int
    message: str


class BadFile(Exception):
    """A configuration file that cannot be used."""

    def __init__(self, path: Path, problems: list[Problem]) -> None:
        self.path = path
        # A key or a value that is quoted may have several lines, a problem has one.
        self.problems = sorted(Problem(p.line, " ".join(p.message.split("\n"))) for p in problems)
        super().__init__("\n".join(f"{path}:{p.line}: {p.message}" for p in self.problems))


class YamlFile:
    """The data of a file, and the line of each key and value in it.

    What the data may be is bounded: no value holds itself, none is nested deeper than DEEPEST, and
    all of them, with every alias written out, are MOST at most. So whoever walks it comes to an
    end. Keys are scalars.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            text = path.read_text(encoding="utf-8")
            _refuse_depth(text)
            loader = _Loader(text)
            self._root = loader.get_single_node()
            self.data: Any = None
            if self._root is not None:
                if problems := _odd_nodes(self._root) or _duplicates(self._root):
                    raise BadFile(path, problems)
                self.data = loader.construct_document(self._root)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise BadFile(path, [Problem(1, f"cannot be read: {reason}")]) from None
        except UnicodeDecodeError:
            raise BadFile(path, [Problem(1, "is no UTF-8 text; save it as UTF-8")]) from None
        except ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            what = f"the character {chr(error.character)!a}"
            raise BadFile(path, [Problem(line, f"is no YAML: {what}; take it out")]) from None
        except yaml.MarkedYAMLError as error:
            raise BadFile(path, [_syntax(error)]) from None

    def line(self, loc: Loc) -> int:
        """Where the value at `loc` stands; of the nearest one around it, if it is not there."""
        node, mark = self._root, 0
        for step in loc:
            key, node = _child(node, step)
            if node is None:
                break
            mark = key.start_mark.line
        return mark + 1

    def line_of(self, value: str, loc: Loc) -> int:
        """The last line below `loc` that has this very scalar, else the line of `loc`."""
        node = self._root
        for step in loc:
            node = _child(node, step)[1] or node
        lines = [n.start_mark.line for n in _scalars(node) if n.value == value]
        return lines[-1] + 1 if lines else self.line(loc)


def _child(node: yaml.Node | None, step: int | str) -> tuple[yaml.Node, yaml.Node | None]:
    """Key and value at `step`; an item of a list is its own key."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(step):
                return key, value
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], node.value[step]
    return yaml.ScalarNode("", ""), None


class _Loader(yaml.SafeLoader):
    """Names the line of a scalar that is none of its kind, such as the date 2026-13-45: PyYAML lets
    out whatever the conversion raises."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            # Packages that vLLM imports make PyYAML take dates for text.
            if isinstance(node, yaml.ScalarNode) and node.tag == _DATE:
                return self.construct_yaml_timestamp(node)
            return super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        except Exception:
            kind = node.tag.rpartition(":")[2]
            _refuse(
                f"this cannot be read as {kind}; put it in quotes if it is text", node.start_mark
            )


def _refuse(what: str, mark: Any) -> Never:
    raise yaml.MarkedYAMLError(problem=what, problem_mark=mark)


def _refuse_depth(text: str) -> None:
    """PyYAML composes by recursion; its events come one by one. Raises yaml.YAMLError."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            _refuse(
                f"values are nested deeper than {DEEPEST} here; take levels out", event.start_mark
            )


def _odd_nodes(root: yaml.Node) -> list[Problem]:
    """What would make the data endless, and keys of something else than a scalar."""
    found: dict[Problem, None] = {}  # a set in order
    left = MOST

    def refuse(node: yaml.Node, what: str) -> None:
        found[Problem(node.start_mark.line + 1, what)] = None

    def walk(node: yaml.Node, around: tuple[yaml.Node, ...]) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            return
        if left == 0:
            refuse(node, f"more than {MOST} values once every alias is written out; use fewer")
        elif any(node is one for one in around):
            refuse(node, "this value holds itself by an alias; write out what is meant")
        elif len(around) > DEEPEST:
            refuse(node, f"nested deeper than {DEEPEST} once every alias is written out")
        elif isinstance(node, yaml.SequenceNode):
            for item in node.value:
                walk(item, (*around, node))
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    what = "a key must be a word, not a list or a map"
                    refuse(key, f"{what}; put quotes around {{{{ ... }}}} and the like")
                walk(key, (*around, node))
                walk(value, (*around, node))

    walk(root, ())
    return list(found)


def _scalars(node: yaml.Node | None) -> list[yaml.ScalarNode]:
    if isinstance(node, yaml.ScalarNode):
        return [node]
    if isinstance(node, yaml.MappingNode):
        return [s for pair in node.value for child in pair for s in _scalars(child)]
    if isinstance(node, yaml.SequenceNode):
        return [s for child in node.value for s in _scalars(child)]
    return []


def _duplicates(node: yaml.Node) -> list[Problem]:
    found: list[Problem] = []
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in seen:
                first = seen[key.value]
                found.append(
                    Problem(line, f"the key {key.value!r} stands in line {first} already; keep one")
                )
            seen.setdefault(key.value, line)
            found += _duplicates(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            found += _duplicates(value)
    return found


def _syntax(error: yaml.MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark is not None else 1
    what = error.problem or "the YAML cannot be read"
    hint = " (indent with spaces)" if "\\t" in what else ""
    return Problem(line, f"is no YAML from here on: {what}{hint}")
