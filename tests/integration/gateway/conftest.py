from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
import uvicorn
from django.core.handlers.asgi import ASGIHandler

from myctobot.gateway.app import GatewayApp, build_gateway, refused_body
from myctobot.gateway.grants import AttemptKey, GrantSource, MemoryGrant, MemoryGrants
from myctobot.gateway.upstreams.base import Upstream
from myctobot.gateway.upstreams.scripted.script_files import load_scripts
from myctobot.gateway.upstreams.scripted.upstream import ScriptedUpstream
from myctobot.gateway.urls import BODY_LIMITS
from myctobot.web.body_limiter import BodyLimiter
from myctobot.web.body_limits import BodyLimits

SCRIPTS = Path(__file__).parents[2] / "fixtures/scripts"
TOKEN = "gateway-token-canary"
KEY = "sk-ant-provider-key-canary"

Serve = Callable[..., AbstractAsyncContextManager[str]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _gateway_settings(settings: Any) -> None:
    # Here: settings read the environment when imported, and that is made after this file is loaded.
    from myctobot.settings import gateway

    for name in ("DEBUG", "ROOT_URLCONF", "MIDDLEWARE"):
        setattr(settings, name, getattr(gateway, name))


@pytest.fixture
def grants() -> MemoryGrants:
    return MemoryGrants({TOKEN: MemoryGrant(1, "job_one", 2, KEY), "no-key": MemoryGrant(1, "job_two")})


@pytest.fixture
def scripted() -> ScriptedUpstream:
    return ScriptedUpstream(load_scripts(SCRIPTS))


@asynccontextmanager
async def served(app: Any, **options: Any) -> AsyncIterator[str]:
    """Serve an ASGI application with uvicorn on a free loopback port, and yield its URL.

    Args:
        options: additional options of uvicorn.
    """
    options = {"ws": "none", **options}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1, **options)
        config.load()
        server = uvicorn.Server(config)
        # As Server.serve() does, without its signal handlers and the tenth of a second for which it looks at them.
        server.lifespan = config.lifespan_class(config)
        await server.startup(sockets=[listener])
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            await server.shutdown(sockets=[listener])


async def all_live(attempts: frozenset[AttemptKey]) -> frozenset[AttemptKey]:
    return attempts


@asynccontextmanager
async def gateway_client(
    upstream: Upstream,
    grants: GrantSource,
    token: str | None = TOKEN,
    body_limits: BodyLimits = BODY_LIMITS,
    body_timeout_s: float = 20,
    **options: Any,
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a real gateway with this upstream.

    Args:
        options: options of ``build_gateway``.
    """
    parts = build_gateway(grants, getattr(grants, "live", all_live), upstream, **options)
    gateway = GatewayApp(ASGIHandler(), parts)
    app = BodyLimiter(gateway, body_limits, body_timeout_s, refused_body)
    headers = {"x-api-key": token} if token else {}
    async with (
        served(app) as url,
        httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=20) as client,
    ):
        yield client


def ask(prompt: str, *, tools: tuple[str, ...] = (), **fields: Any) -> dict[str, Any]:
    """A Messages API request with one message."""
    return {
        "model": "claude-test",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": prompt}],
        "tools": [{"name": name, "input_schema": {"type": "object"}} for name in tools],
        **fields,
    }


@pytest.fixture
def call_lines() -> Iterator[list[Any]]:
    """Record the gateway's log lines about its calls."""
    with structlog.testing.capture_logs() as lines:
        yield lines
