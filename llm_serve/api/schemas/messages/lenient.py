"""The base of all objects that a Messages request holds, and unions that choose by one member."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any

from pydantic import Discriminator, Field, ValidationInfo, model_validator

from llm_serve.api.schemas.values import Body

BETA = "beta"
"""In the context of a validation: unknown members are dropped."""
NOT_READ = "other_type"
"""The type of the errors about a kind of block, tool or edit that this server does not have."""
REFUSED = frozenset({"container", "mcp_servers", "thread", "compaction", "inference_geo"})
"""Members that would change the answer if they were obeyed: refused by name, in a beta too."""
Ignored = Annotated[Any, Field(description="Accepted; has no effect.")]
Id = Annotated[str, Field(min_length=1, max_length=256)]
Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,128}$")]


class Lenient(Body):
    """An object to which a newer client may add members."""

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any, info: ValidationInfo) -> Any:
        """As in `Body`, but that a beta's unknown members are all dropped."""
        if not isinstance(data, dict):
            return data
        known = _known(cls)
        if not known.issuperset(data):
            kept = REFUSED
            if not (info.context and info.context.get(BETA)):
                kept = frozenset((next(key for key in data if key not in known),))
            data = {key: data[key] for key in data if key in known or key in kept}
        if None in data.values():
            return {key: value for key, value in data.items() if value is not None}
        return data


@cache
def _known(kind: type[Lenient]) -> frozenset[str]:
    return frozenset(field.alias or name for name, field in kind.model_fields.items())


def chosen_by(member: str, *values: str) -> Discriminator:
    """Chooses the branch of a union by a member of the value; the branches' tags are the values in
    parentheses."""
    allowed = f"{', '.join(map(repr, values[:-1]))} or {values[-1]!r}"

    def choose(value: Any) -> str | None:
        kind = value.get(member) if isinstance(value, dict) else getattr(value, member, None)
        return f"({kind})" if isinstance(kind, str) and kind in values else None

    return Discriminator(
        choose,
        custom_error_type=NOT_READ if member == "type" else member,
        custom_error_message=f"{member} should be {allowed}; no other is read here",
    )
