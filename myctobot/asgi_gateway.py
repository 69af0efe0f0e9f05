"""ASGI application of the gateway."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "myctobot.settings.gateway")

from django.conf import settings
from django.core.asgi import get_asgi_application

from myctobot.gateway.app import GatewayApp, gateway_from_settings, refused_body
from myctobot.gateway.urls import BODY_LIMITS
from myctobot.web.body_limiter import BodyLimiter

_gateway = GatewayApp(get_asgi_application(), gateway_from_settings())
application = BodyLimiter(_gateway, BODY_LIMITS, settings.REQUEST_BODY_TIMEOUT_S, refused_body)
