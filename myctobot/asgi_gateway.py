"""ASGI application of the gateway."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "myctobot.settings.gateway")

from django.conf import settings
from django.core.asgi import get_asgi_application

from myctobot.gateway.app import GatewayApp, gateway_from_settings, refused_body
from myctobot.gateway.urls import BODY_LIMITS
from myctobot.lib.postgres.limits import limit_statements
from myctobot.settings.gateway import GATEWAY_CALL_LIMITS, GATEWAY_GRANT_CHECK_S, GATEWAY_POLICY
from myctobot.web.body_limiter import BodyLimiter

# Models can be imported only after this call.
_django = get_asgi_application()
limit_statements(settings.STATEMENT_TIMEOUT_S)
_parts = gateway_from_settings(GATEWAY_POLICY, GATEWAY_CALL_LIMITS, GATEWAY_GRANT_CHECK_S)
_gateway = GatewayApp(_django, _parts)
application = BodyLimiter(_gateway, BODY_LIMITS, settings.REQUEST_BODY_TIMEOUT_S, refused_body)
