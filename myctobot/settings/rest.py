"""Settings of the REST API and of its schema."""

from __future__ import annotations

from typing import Any, Final

FRAMEWORK: Final[dict[str, Any]] = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "myctobot.tenants.authentication.ApiKeyAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["myctobot.tenants.authentication.HasTenant"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["myctobot.api.parsing.BoundedJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "myctobot.tenants.openapi.PermissionSchema",
    # OPTIONS would describe serializers in a format of the library; the schema describes them for all clients.
    "DEFAULT_METADATA_CLASS": None,
    # Otherwise ``?format=xml`` would be a 404, as if the object did not exist.
    "URL_FORMAT_OVERRIDE": None,
    "EXCEPTION_HANDLER": "myctobot.api.errors.exception_handler",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
SCHEMA: Final[dict[str, Any]] = {
    "TITLE": "MyCTOBot API",
    "DESCRIPTION": "Run coding agents as jobs on your own shards.",
    "VERSION": "1.0.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SCHEMA_PATH_PREFIX": "/api/v1",
    # Serve the UI from the installed package, so that the docs page loads nothing from other hosts.
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "ENUM_NAME_OVERRIDES": {"JobStatusEnum": "myctobot.contract.jobs.JobStatus"},
}
