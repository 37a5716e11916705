"""The README's reference is the configuration tree's. UPDATE_REFERENCE=1 writes it anew."""

from __future__ import annotations

import os
import re

from llm_serve.config import Config
from tests.docs.readme import FILE
from tests.docs.reference import SECTIONS, reference

_MARKED = re.compile(r"(<!-- reference: [^>]*-->\n).*?(<!-- /reference -->)", re.DOTALL)


def test_the_reference_is_up_to_date() -> None:
    text = FILE.read_text()
    wanted = _MARKED.sub(lambda match: f"{match[1]}\n{reference()}\n{match[2]}", text)
    assert _MARKED.search(text)
    if os.environ.get("UPDATE_REFERENCE"):
        FILE.write_text(wanted)
    assert FILE.read_text() == wanted, "run UPDATE_REFERENCE=1 python -m pytest tests/docs"


def test_every_key_is_explained() -> None:
    for title, model in SECTIONS:
        for name, field in model.model_fields.items():
            assert field.description, f"{title}: {name} has no description"


def test_every_section_is_there() -> None:
    shown = " ".join(title for title, _ in SECTIONS)
    for name in Config.model_fields:
        assert f"`{name}`" in shown
