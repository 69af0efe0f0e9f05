"""The web process: pages, the REST API, the admin, the shard API, and WebSockets."""

from __future__ import annotations

import os

from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "myctobot.settings")

http = get_asgi_application()

# Needs the apps, which the line above has loaded.
from jobs.streaming.urls import websocket_urlpatterns  # noqa: E402  # see above

application = ProtocolTypeRouter({"http": http, "websocket": URLRouter([*websocket_urlpatterns])})
