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
    "DEFAULT_SCHEMA_CLASS": "myctobot.tenants.openapi.OperationSchema",
    # OPTIONS would describe serializers in a format of the library; the schema describes them for all clients.
    "DEFAULT_METADATA_CLASS": None,
    # Otherwise ``?format=xml`` would be a 404, as if the object did not exist.
    "URL_FORMAT_OVERRIDE": None,
    "EXCEPTION_HANDLER": "myctobot.api.errors.exception_handler",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
_TAGS: Final = {
    "jobs": "Jobs of a tenant: submit, watch, cancel and retry them, and read their callbacks.",
    "callback-secret": "The secret that signs a tenant's callbacks.",
    "secrets": "Stored secrets of a tenant, and their bindings.",
    "repository-policies": "What pushes of a tenant's jobs may do.",
    "queues": "The queues of shard classes. For operators.",
    "suspensions": "Drains and pauses. For operators.",
    "shards": "Shards and the operations on their containers. For operators.",
    "shard-templates": "Templates of new shards. For operators.",
    "pools": "Pools of shards with their scaling rules. For operators.",
    "audit": "The audit log. For operators.",
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
    # Colours in the examples take more than half of the time in which a call unfolds.
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "syntaxHighlight": {"activated": False}},
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    # Version 3.1 says of any type that it may be null; 3.0 cannot say it of a reference.
    "OAS_VERSION": "3.1.0",
    "SERVERS": [{"url": "/", "description": "The server of this document."}],
    "LICENSE": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    "TAGS": [{"name": name, "description": text} for name, text in _TAGS.items()],
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "myctobot.tenants.openapi.complete_document",
    ],
    "ENUM_NAME_OVERRIDES": {
        "JobStatusEnum": "myctobot.contract.jobs.JobStatus",
        "EventKindEnum": "jobs.api.response_serializers.STORED_KINDS",
        "OperationKindEnum": "shards.operations.models.OperationKind",
    },
}
