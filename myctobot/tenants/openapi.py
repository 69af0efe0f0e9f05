"""The API's schema: authentication, parameters, summaries, permissions, and every error of every operation."""

from __future__ import annotations

import re
from typing import Any, Final

from drf_spectacular.extensions import (
    OpenApiAuthenticationExtension,
    OpenApiSerializerExtension,
    OpenApiSerializerFieldExtension,
)
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter

from myctobot.contract.names import SLUG_PATTERN
from myctobot.tenants.openapi_errors import ERROR_SCHEMA, error_responses

_SLUG: Final = f"^{SLUG_PATTERN}$"
_TENANT: Final = OpenApiParameter(
    "MyCTOBot-Tenant",
    {"type": "string", "pattern": _SLUG},
    OpenApiParameter.HEADER,
    description="Slug of the tenant, for a session whose user has several. A key may only name its own tenant.",
)
_NO_NUL: Final = r"[^\u0000]*"
# Patterns of the parameters in a path, by the beginning of the path.
_PATH_PATTERNS: Final = {
    "/api/v1/jobs/": {"job_id": r"^job_[0-9a-z]{20}$", "callback_id": r"^msg_[0-9a-z]{20}$"},
    "/api/v1/secrets/": {"name": r"^[A-Za-z0-9_-]{1,60}$"},
    "/api/v1/shards/": {"name": _SLUG},
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
        pattern = self.target.pattern or _NO_NUL
        return {**schema, **({} if self.target.allow_blank else {"minLength": 1}), "pattern": f"^{pattern}$"}


class StrictObjectSchema(OpenApiSerializerExtension):  # type: ignore[no-untyped-call]  # as above
    """Description of a request's object, which has no other fields."""

    target_class = "myctobot.api.fields.StrictSerializer"
    match_subclasses = True

    def map_serializer(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        schema: dict[str, Any] = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)
        return {**schema, "additionalProperties": False}


class OperationSchema(AutoSchema):
    """Schema of one call: what the view declares, in the words of its description."""

    def get_override_parameters(self) -> list[Any]:
        declared = list(getattr(self.view, "query", {}).get(self.method, ()))
        # Calls of operators belong to no tenant.
        return declared if getattr(self.view, "needs", None) else [*declared, _TENANT]

    def get_summary(self) -> str | None:
        return summary_of(str(self.get_description()))

    def get_operation(self, *args: Any) -> dict[str, Any] | None:
        operation: dict[str, Any] | None = super().get_operation(*args)
        if operation is None:
            return None
        needed = [str(permission) for permission in getattr(self.view, "needs", {}).get(self.method, ())]
        if needed:
            joined = (" or " if getattr(self.view, "target_decides", False) else ", ").join(needed)
            operation["description"] = f"{operation.get('description', '')} Needs {joined}.".lstrip()
        errors = error_responses(self.view, str(self.method), has_body="requestBody" in operation)
        operation["responses"] = dict(sorted({**operation["responses"], **errors}.items()))
        self._add_patterns(operation)
        return operation

    def _add_patterns(self, operation: dict[str, Any]) -> None:
        path = str(self.path)
        patterns = next((found for prefix, found in _PATH_PATTERNS.items() if path.startswith(prefix)), {})
        for parameter in operation.get("parameters", []):
            if parameter["in"] == "path":
                parameter["schema"]["pattern"] = patterns[parameter["name"]]


def summary_of(description: str) -> str:
    """Return the first sentence of a description, without its full stop."""
    found = _FIRST_SENTENCE.match(" ".join(description.split()))
    return found[1] if found else ""


def complete_document(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Add the schema of errors, which no serializer describes. A hook of the generator."""
    result["components"]["schemas"]["Error"] = ERROR_SCHEMA
    return result
