from pathlib import Path

import pytest

from llm_serve.config import ModelConfig, default_config
from llm_serve.models import is_cached, parse
from llm_serve.models.sources import Folder, Hub, Source, Wheel


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (None, Hub("org/name")),
        ("hub:a/b-1.5", Hub("a/b-1.5")),
        ("hub:a/b@refs/pr/3", Hub("a/b", "refs/pr/3")),
        ("wheel:d-x==1.0+cpu/p/q.gguf", Wheel("d-x", "1.0+cpu", "p/q.gguf")),
        ("wheel:d==1/p/", Wheel("d", "1", "p")),
        ("/models/llama", Folder(Path("/models/llama"), "/models/llama")),
        ("./llama", Folder(Path("llama"), "./llama")),
        ("~/llama", Folder(Path("~/llama"), "~/llama")),
    ],
)
def test_each_form_is_read(source: str | None, expected: Source) -> None:
    assert parse(ModelConfig(id="org/name", source=source)) == expected


@pytest.mark.parametrize(
    ("source", "advice"),
    [
        ("org/name", "hub:org/name"),
        ("", "hub:"),
        ("hub:a/b/c", "hub:org/name"),
        ("hub:../../etc", "hub:org/name"),
        ("wheel:dist/p.gguf", "wheel:dist=="),
        ("wheel:--index-url==1/p.gguf", "wheel:dist=="),
        ("wheel:d==1/../p.gguf", "'..'"),
        ("wheel:d==1//etc/p.gguf", "'..'"),
    ],
)
def test_what_cannot_be_read_is_refused_with_advice(source: str, advice: str) -> None:
    model = ModelConfig(id="m", source=source)
    with pytest.raises(ValueError, match=r"write|must") as caught:
        parse(model)
    assert advice in str(caught.value)
    assert not is_cached(model)


def test_an_id_that_is_no_hub_id_needs_a_source() -> None:
    with pytest.raises(ValueError, match="`source`"):
        parse(ModelConfig(id="a:b/c+d"))


def test_the_checksum_of_the_configuration_reaches_the_wheel() -> None:
    model = ModelConfig(id="m", source="wheel:d==1/p.gguf", sha256="0" * 64)
    assert parse(model) == Wheel("d", "1", "p.gguf", "0" * 64)


def test_the_default_model_is_a_wheel() -> None:
    assert isinstance(parse(default_config().default_model), Wheel)
