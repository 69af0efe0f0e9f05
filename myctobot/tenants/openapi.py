"""The API's schema: authentication, parameters, summaries, permissions, and every error of every operation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from drf_spectacular.extensions import (
    OpenApiAuthenticationExtension,
    OpenApiSerializerExtension,
    OpenApiSerializerFieldExtension,
)
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter
from rest_framework.permissions import SAFE_METHODS

from myctobot.contract.names import SLUG_PATTERN
from myctobot.tenants.openapi_errors import ERROR_SCHEMA, error_responses

_SLUG: Final = f"^{SLUG_PATTERN}$"
_TENANT: Final = OpenApiParameter(
    "MyCTOBot-Tenant",
    {"type": "string", "format": "tenant", "pattern": _SLUG},
    OpenApiParameter.HEADER,
    description="Slug of the tenant, for a session whose user has several. A key may only name its own tenant.",
)
_CSRF_SCHEME: Final = "csrfToken"
_CSRF: Final = {
    "type": "apiKey",
    "in": "header",
    "name": "X-CSRFToken",
    "description": "The value of the cookie `csrftoken`, which a session sends with each call that is not a GET.",
}
_NO_NUL: Final = r"[^\u0000]*"
# The parameters in a path, by the beginning of the path. A format says of what they are the name.
_PATH_PARAMETERS: Final = {
    "/api/v1/jobs/": {
        "job_id": {"format": "job", "pattern": r"^job_[0-9a-z]{20}$"},
        "callback_id": {"format": "callback", "pattern": r"^msg_[0-9a-z]{20}$"},
    },
    "/api/v1/secrets/": {"name": {"format": "secret", "pattern": r"^[A-Za-z0-9_-]{1,60}$"}},
    "/api/v1/shards/": {"name": {"format": "shard", "pattern": _SLUG}},
}
_FIRST_SENTENCE: Final = re.compile(r"(.+?)\.?(?:\s*$|(?<=\.)\s)", re.DOTALL)


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # the library has no annotations here
    """Description of API keys for the schema."""

    target_class = "myctobot.tenants.authentication.ApiKeyAuthentication"
    name = "ApiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "mctb_…"}


class StrictTextSchema(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]  # as above
    """Description of a text field: it is not blank unless that is allowed, and never has NUL."""

    target_class = "myctobot.api.fields.StrictCharField"
    match_subclasses = True

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        schema: dict[str, Any] = auto_schema._map_serializer_field(self.target, direction, bypass_extensions=True)
        schema["pattern"] = f"^{self.target.pattern or _NO_NUL}$"
        if not self.target.allow_blank:
            schema["minLength"] = 1
        if self.target.text_format is not None:
            schema["format"] = self.target.text_format
        if self.target.max_bytes is not None:
            # A character has at least one byte.
            schema["maxLength"] = self.target.max_bytes
        return schema


class StrictObjectSchema(OpenApiSerializerExtension):  # type: ignore[no-untyped-call]  # as above
    """Description of a request's object, which has no other fields, and of the rules between its fields."""

    target_class = "myctobot.api.fields.StrictSerializer"
    match_subclasses = True

    def map_serializer(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        schema: dict[str, Any] = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)
        return {**schema, "additionalProperties": False, **self.target.rules}


class OperationSchema(AutoSchema):
    """Schema of one call: what the view declares, in the words of its description."""

    def get_override_parameters(self) -> list[Any]:
        declared = list(getattr(self.view, "query", {}).get(self.method, ()))
        # Calls of operators belong to no tenant.
        return declared if self._needs() else [*declared, _TENANT]

    def get_auth(self) -> list[dict[str, list[str]]]:
        # The call of the library adds the descriptions of both ways to the document.
        ways: list[dict[str, list[str]]] = super().get_auth()
        changes = self.method not in SAFE_METHODS
        session: dict[str, list[str]] = {"cookieAuth": [], **({_CSRF_SCHEME: []} if changes else {})}
        return [session if "cookieAuth" in way else way for way in ways if "cookieAuth" in way or not self._needs()]

    def _needs(self) -> Mapping[str, Any]:
        """Return the permissions of a call of operators, who have sessions only; empty for a call of members."""
        found: Mapping[str, Any] = getattr(self.view, "needs", {})
        return found

    def get_summary(self) -> str | None:
        return summary_of(str(self.get_description()))

    def get_operation(self, *args: Any) -> dict[str, Any] | None:
        operation: dict[str, Any] | None = super().get_operation(*args)
        if operation is None:
            return None
        needed = [str(permission) for permission in self._needs().get(str(self.method), ())]
        if needed:
            joined = (" or " if getattr(self.view, "target_decides", False) else ", ").join(needed)
            operation["description"] = f"{operation.get('description', '')} Needs {joined}.".lstrip()
        errors = error_responses(self.view, str(self.method), has_body="requestBody" in operation)
        operation["responses"] = dict(sorted({**operation["responses"], **errors}.items()))
        self._describe_path(operation)
        return operation

    def _describe_path(self, operation: dict[str, Any]) -> None:
        path = str(self.path)
        known = next((found for prefix, found in _PATH_PARAMETERS.items() if path.startswith(prefix)), {})
        for parameter in operation.get("parameters", []):
            if parameter["in"] == "path":
                parameter["schema"].update(known[parameter["name"]])


def summary_of(description: str) -> str:
    """Return the first sentence of a description, without its full stop."""
    found = _FIRST_SENTENCE.match(" ".join(description.split()))
    return found[1] if found else ""


def complete_document(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Add the schemas of errors and of the CSRF token, which no class describes. A hook of the generator."""
    result["components"]["schemas"]["Error"] = ERROR_SCHEMA
    result["components"]["securitySchemes"][_CSRF_SCHEME] = _CSRF
    return result
