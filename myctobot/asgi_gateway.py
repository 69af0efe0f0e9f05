"""The gateway's ASGI application: ``uvicorn myctobot.asgi_gateway:application``."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "myctobot.settings.gateway")

from django.core.asgi import get_asgi_application

from myctobot.gateway.app import GatewayApp, gateway_from_settings

application = GatewayApp(get_asgi_application(), gateway_from_settings())
