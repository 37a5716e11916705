"""Model ids as names of Ray's deployments and actors, in both directions."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.app.names import deployment_of, model_of, replica_model


@given(st.text(min_size=1))
def test_a_deployment_tells_its_model(model_id: str) -> None:
    name = deployment_of(model_id)
    assert model_of(name) == model_id
    assert replica_model(f"SERVE_REPLICA::app#{name}#x1y2", "app") == model_id
    assert not set(name) & set("%#/:{}")


def test_the_ingress_is_no_model() -> None:
    assert model_of("Ingress") is None
    assert replica_model("SERVE_REPLICA::other#Model.a#x", "app") is None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's import of itself
@pytest.mark.parametrize("model_id", ["small/vllm", "a%sb", "a~b", "50%"])
def test_a_replica_of_any_id_can_log(model_id: str) -> None:
    """Ray puts the deployment's name into a %-format."""
    from ray.serve._private.logging_utils import ServeFormatter

    record = logging.LogRecord("ray.serve", logging.INFO, "", 0, "it %s", ("is said",), None)
    line = ServeFormatter(deployment_of(model_id), "x1").format(record)
    assert deployment_of(model_id) in line
    assert "it is said" in line
