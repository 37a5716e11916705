"""The configuration of `overlays/cpu` on a head and a worker as KubeRay starts them, simulated on
this machine, with echo for the model."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from deployments.app.names import INGRESS, deployment_of
from tests.k8s.nodes import KubeRayNodes, order_of
from tests.k8s.page import CURL, commands
from tests.k8s.rendered import Rendered
from tests.support.client import Api
from tests.support.nodes import wait_until_ok

pytestmark = pytest.mark.ray
ADDRESS = "http://127.0.0.1:11424"
KEY = "a-key-of-this-test"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("secret") / "keys"
    file.write_text(f"{KEY}\n")
    return file


@pytest.fixture(scope="module")
def nodes(rendered: Callable[[str], Rendered], keys: Path) -> Iterator[KubeRayNodes]:
    order = order_of(rendered("cpu"))
    order["serve"]["applications"][0]["args"]["server"]["api_key_file"] = str(keys)
    with KubeRayNodes(order) as cluster:
        asks = {"Authorization": f"Bearer {KEY}"}
        with httpx.Client(base_url=cluster.url, headers=asks, timeout=30) as client:
            wait_until_ok(Api(client))
        yield cluster


def test_replicas_are_on_workers_alone(
    nodes: KubeRayNodes, rendered: Callable[[str], Rendered]
) -> None:
    raylets = nodes.raylets()
    models = {deployment_of(model.id) for model in rendered("cpu").config.models}
    (worker,) = raylets["workers"]
    assert nodes.deployments(worker["pid"]) == {INGRESS, *models}
    assert nodes.deployments(raylets["head"]["pid"]) == set()


def test_the_curl_of_the_page_is_answered(nodes: KubeRayNodes, keys: Path) -> None:
    (curl,) = (c.text for c in commands() if c.text.startswith(CURL))
    done = subprocess.run(
        ["bash", "-c", curl.replace(ADDRESS, nodes.url)],
        cwd=keys.parent,
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert json.loads(done.stdout)["choices"][0]["message"]["content"] == "Say hello"


def test_nobody_asks_without_a_key(nodes: KubeRayNodes) -> None:
    answer = httpx.post(f"{nodes.url}/v1/chat/completions", json={"messages": []}, timeout=30)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "missing_api_key"
