"""The web process: the REST API, the admin and the shard API."""

from __future__ import annotations

import os

from channels.routing import ProtocolTypeRouter
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "myctobot.settings")

application = ProtocolTypeRouter({"http": get_asgi_application()})
