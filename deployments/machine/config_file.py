"""Reads a `serve_config.yaml` and says everything that is wrong with it, line by line: for the
command, its verb `check` and its option `--config`.

Ray Serve drops keys that it does not know; here they are errors, at its levels and at ours.
"""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from deployments.machine.environment import applied, serve_env
from deployments.schema import IMPORT_PATH, POLICY, ServeFile, our_application
from llm_serve.config import DEFAULT_HOST, DEFAULT_PORT, Config
from llm_serve.config.api_keys import read_keys
from llm_serve.config.explain import explain, unknown_keys
from llm_serve.config.explain import path as path_of
from llm_serve.config.yaml_file import BadFile, Loc, Problem, YamlFile
from llm_serve.models import parse


def read_serve_file(path: Path) -> ServeFile:
    """Raises BadFile with every problem found."""
    with applied({}, serve_env()):  # Ray reads its environment once, when it is first imported
        from ray.serve.schema import ServeDeploySchema

    file = YamlFile(path)
    problems = _outer_problems(file, ServeDeploySchema)
    index = our_application(file.data)
    if index is None:
        problems.append(
            Problem(1, f"no application has `import_path: {IMPORT_PATH}`; add it as in the README")
        )
        raise BadFile(path, problems)
    at: Loc = ("applications", index, "args")
    policy = file.data["applications"][index].get("autoscaling_policy")
    if not isinstance(policy, dict) or policy.get("policy_function") != POLICY:
        line = file.line(("applications", index, "import_path"))
        remedy = f"add `autoscaling_policy: {{policy_function: {POLICY}}}`"
        problems.append(Problem(line, f"nothing would ever be loaded; {remedy}"))
    config = _config(file, at, file.data["applications"][index].get("args"), problems)
    if problems or config is None:
        raise BadFile(path, problems)
    options = file.data.get("http_options") or {}
    host, port = str(options.get("host", DEFAULT_HOST)), int(options.get("port", DEFAULT_PORT))
    if not 1 <= port <= 65535:
        what = f"http_options.port: must be from 1 to 65535, not {port}"
        raise BadFile(path, [Problem(file.line(("http_options", "port")), what)])
    return ServeFile(config=config, host=host, port=port, whole=file.data)


def _outer_problems(file: YamlFile, schema: type[BaseModel]) -> list[Problem]:
    """What is wrong at Ray's levels."""
    if not isinstance(file.data, dict):
        return [Problem(1, "holds no `key: value` lines; start from serve_config.yaml")]
    found = []
    for loc, message in unknown_keys(file.data, schema):
        if len(loc) == 1 and loc[0] in Config.model_fields:
            message = f"`{loc[0]}` is ours, not Ray Serve's: put it below `applications`, `args`"
        found.append(Problem(file.line(loc), message))
    try:
        schema.model_validate(file.data)
    except ValidationError as error:
        found += [Problem(file.line(loc), text) for loc, text in explain(error, schema)]
    except Exception:  # Ray's own validators take much for granted
        loc = _culprit(file.data, schema)
        what = f"Ray Serve cannot read {path_of(loc) or 'this file'}"
        found.append(Problem(file.line(loc), f"{what}; write it as Ray Serve's documentation says"))
    return found


def _culprit(data: Any, schema: type[BaseModel]) -> Loc:
    """The smallest part of `data` without which Ray's validators do not break."""
    loc: Loc = ()
    while True:
        part = _at(data, loc)
        steps = range(len(part)) if isinstance(part, list) else part
        for step in steps if isinstance(part, dict | list) else ():
            less = copy.deepcopy(data)
            del _at(less, loc)[step]
            try:
                schema.model_validate(less)
            except ValidationError:
                pass
            except Exception:
                continue
            loc = (*loc, step)
            break
        else:
            return loc


def _at(data: Any, loc: Loc) -> Any:
    for step in loc:
        data = data[step]
    return data


def _config(file: YamlFile, at: Loc, args: Any, problems: list[Problem]) -> Config | None:
    """Our tree, or None; adds to `problems`."""
    try:
        config = Config.model_validate(args if args is not None else {})
    except ValidationError as error:
        for loc, message in explain(error, Config):
            quoted = re.search(r"'([^']+)'", message) if not loc else None
            line = file.line_of(quoted[1], at) if quoted else file.line((*at, *loc))
            problems.append(Problem(line, message))
        return None
    for index, model in enumerate(config.models):
        try:
            if model.backend != "echo":
                parse(model)
        except ValueError as error:
            key = "id" if model.source is None else "source"
            problems.append(Problem(file.line((*at, "models", index, key)), str(error)))
    try:
        read_keys(config.server.api_key_file)
    except ValueError as error:
        problems.append(Problem(file.line((*at, "server", "api_key_file")), str(error)))
    return config
