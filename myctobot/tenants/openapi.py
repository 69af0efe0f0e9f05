"""Authentication and permissions in the API's schema."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # the library has no annotations here
    """Description of API keys for the schema."""

    target_class = "myctobot.tenants.authentication.ApiKeyAuthentication"
    name = "ApiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "mctb_…"}


class PermissionSchema(AutoSchema):
    """Schema that names the query parameters of a call, and the permissions of an operator's call."""

    def get_override_parameters(self) -> list[Any]:
        return list(getattr(self.view, "query", {}).get(self.method, ()))

    def get_operation(self, *args: Any) -> dict[str, Any] | None:
        operation: dict[str, Any] | None = super().get_operation(*args)
        needed = [str(permission) for permission in getattr(self.view, "needs", {}).get(self.method, ())]
        if operation is not None and needed:
            joined = (" or " if getattr(self.view, "target_decides", False) else ", ").join(needed)
            operation["description"] = f"{operation.get('description', '')} Needs {joined}.".lstrip()
        return operation
