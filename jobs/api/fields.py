"""Serializer field for secrets; ``myctobot.api.fields`` has the general fields."""

from __future__ import annotations

import re
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from jobs.lifecycle.secrets import SecretSource
from myctobot.contract.limits import MIN_SECRET_LENGTH
from myctobot.tenants.secrets import MAX_SECRET_LENGTH, SECRET_PATTERN, value_problem

_SECRET_NAME = re.compile(r"[A-Za-z0-9_-]{1,60}")


@extend_schema_field(
    {
        "oneOf": [
            {
                "type": "string",
                "format": "password",
                "minLength": MIN_SECRET_LENGTH,
                "maxLength": MAX_SECRET_LENGTH,
                "pattern": f"^{SECRET_PATTERN}$",
            },
            {
                "type": "object",
                "properties": {"secret": {"type": "string", "pattern": f"^{_SECRET_NAME.pattern}$"}},
                "required": ["secret"],
                "additionalProperties": False,
            },
        ],
        "writeOnly": True,
    }
)
class SecretField(serializers.Field[SecretSource, Any, Any, Any]):
    """Value of a secret, or ``{"secret": "name"}`` for a stored one; responses never contain it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(write_only=True, **kwargs)

    def to_internal_value(self, data: Any) -> SecretSource:
        if isinstance(data, dict):
            name = data.get("secret")
            if set(data) != {"secret"} or not isinstance(name, str):
                raise serializers.ValidationError('Must be text, or {"secret": "name of a stored secret"}.')
            if not _SECRET_NAME.fullmatch(name):
                raise serializers.ValidationError("A secret's name has 1 to 60 letters, digits, dashes or underscores.")
            return {"secret": name}
        if not isinstance(data, str):
            raise serializers.ValidationError('Must be text, or {"secret": "name of a stored secret"}.')
        if problem := value_problem(data):
            raise serializers.ValidationError(problem)
        return data
