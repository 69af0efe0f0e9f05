"""Settings of the gateway's process, derived from those of the control plane.

The callers are agents, which may be hostile, so the process has only what a gateway call needs.
"""

from __future__ import annotations

import copy

from myctobot.env import env, whole_number
from myctobot.gateway.job_calls import JobCallLimits
from myctobot.gateway.policy import DEFAULT_BETAS, DEFAULT_MODELS, DEFAULT_SOURCES, DEFAULT_TOOLS, CallPolicy
from myctobot.settings import *  # noqa: F403 - Django's way to derive settings
from myctobot.settings import LOGGING as _LOGGING

# Debug pages show local variables, which agents must not see.
DEBUG = False
ROOT_URLCONF = "myctobot.gateway.urls"
ASGI_APPLICATION = "myctobot.asgi_gateway.application"
MIDDLEWARE = []
# Only the apps with the tables of a grant and their dependencies: no admin, API or sessions.
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.postgres",
    "myctobot.tenants",
    "shards",
    "jobs",
]


def _patterns(name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(text.strip() for text in env.list(name, default=list(default)))


# Allow-lists of patterns such as claude-*; see ``myctobot.gateway.policy``.
GATEWAY_POLICY = CallPolicy(
    models=_patterns("GATEWAY_MODELS", DEFAULT_MODELS),
    betas=_patterns("GATEWAY_BETAS", DEFAULT_BETAS),
    tools=_patterns("GATEWAY_TOOLS", DEFAULT_TOOLS),
    sources=_patterns("GATEWAY_SOURCES", DEFAULT_SOURCES),
    remote_mcp=env.bool("GATEWAY_REMOTE_MCP", default=False),
)
GATEWAY_CALL_LIMITS = JobCallLimits(
    concurrent=whole_number("GATEWAY_MAX_CONCURRENT_CALLS", 16, minimum=1),
    total=whole_number("GATEWAY_MAX_CALLS_PER_ATTEMPT", 5000, minimum=1),
)
# Seconds between two checks of the grants of open calls, which end together with their grant.
GATEWAY_GRANT_CHECK_S = whole_number("GATEWAY_GRANT_CHECK_S", 2, minimum=1)

LOGGING = copy.deepcopy(_LOGGING)
# The gateway logs each call with its status, so Django's own line would be a duplicate.
LOGGING["loggers"]["django.request"] = {"level": "ERROR"}
