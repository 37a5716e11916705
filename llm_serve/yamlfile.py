"""A YAML file whose errors have a line: duplicate keys, syntax, and where a value stands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Loc = tuple[int | str, ...]


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong with a file. `line` counts from 1."""

    line: int
    message: str


class BadFile(Exception):
    """A configuration file that cannot be used."""

    def __init__(self, path: Path, problems: list[Problem]) -> None:
        self.path = path
        self.problems = sorted(problems)
        super().__init__("\n".join(f"{path}:{p.line}: {p.message}" for p in self.problems))


class YamlFile:
    """The data of a file, and the line of each key and value in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._root = yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)
            duplicates = list(_duplicates(self._root)) if self._root is not None else []
            if duplicates:
                raise BadFile(path, duplicates)
            self.data: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise BadFile(path, [Problem(1, f"cannot be read: {reason}")]) from None
        except UnicodeDecodeError:
            raise BadFile(path, [Problem(1, "is no UTF-8 text; save it as UTF-8")]) from None
        except yaml.MarkedYAMLError as error:
            raise BadFile(path, [_syntax(error)]) from None
        except yaml.YAMLError as error:
            raise BadFile(path, [Problem(1, f"is no YAML: {error}")]) from None

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
