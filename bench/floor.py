"""The floor of the transport: the same app over the echo backend under plain uvicorn, no Ray."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvicorn
import yaml

from llm_serve.api.app import create_app
from llm_serve.config import Config
from tests.support.local_gateway import LocalGateway


async def serve(config: Config, port: int) -> None:
    gateway = LocalGateway(config)
    await gateway.start()
    app = create_app(config, gateway)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning", access_log=False))
    await server.serve()


if __name__ == "__main__":
    tree = yaml.safe_load(Path(sys.argv[1]).read_text())
    asyncio.run(serve(Config.model_validate(tree["applications"][0]["args"]), int(sys.argv[2])))
