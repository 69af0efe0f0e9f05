"""Settings of the gateway's process: the control plane's, with another face.

Its callers are agents, which are hostile, so there is nothing here that they do not need.
"""

from __future__ import annotations

import copy

from myctobot.gateway.requests import MAX_BODY_BYTES
from myctobot.settings import *  # noqa: F403 - Django's way to derive settings
from myctobot.settings import LOGGING as _LOGGING

# Pages that explain an error show local variables, so they are never for an agent.
DEBUG = False
ROOT_URLCONF = "myctobot.gateway.urls"
ASGI_APPLICATION = "myctobot.asgi_gateway.application"
MIDDLEWARE = []
# The tables that a grant is read from, and what these refer to; no admin, no API, no sessions.
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
# Each call has its one line, with its status; Django's would be a second.
LOGGING["loggers"]["django.request"] = {"level": "ERROR"}
