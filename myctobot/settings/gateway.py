"""Settings of the gateway's process, derived from those of the control plane.

The callers are agents, which may be hostile, so the process has only what a gateway call needs.
"""

from __future__ import annotations

import copy

from myctobot.gateway.requests import MAX_BODY_BYTES
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
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_BODY_BYTES

LOGGING = copy.deepcopy(_LOGGING)
# The gateway logs each call with its status, so Django's own line would be a duplicate.
LOGGING["loggers"]["django.request"] = {"level": "ERROR"}
