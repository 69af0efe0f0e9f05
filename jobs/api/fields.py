"""Serializer field for secrets; ``myctobot.api.fields`` has the general fields."""

from __future__ import annotations

import re
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from jobs.lifecycle.secrets import SecretSource
from myctobot.contract.limits import MIN_SECRET_LENGTH

MAX_SECRET_LENGTH = 20_000
_SECRET_NAME = re.compile(r"[A-Za-z0-9_-]{1,60}")


@extend_schema_field(
    {
        "oneOf": [
            {"type": "string", "format": "password", "minLength": MIN_SECRET_LENGTH},
            {"type": "object", "properties": {"secret": {"type": "string"}}, "required": ["secret"]},
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
        if not MIN_SECRET_LENGTH <= len(data) <= MAX_SECRET_LENGTH:
            raise serializers.ValidationError(f"Must have {MIN_SECRET_LENGTH} to {MAX_SECRET_LENGTH} characters.")
        if "\x00" in data or not data.isascii():
            raise serializers.ValidationError("Must be ASCII text.")
        # Masking a shorter secret would also mask ordinary words of the output.
        if len("".join(data.split())) < MIN_SECRET_LENGTH:
            raise serializers.ValidationError(
                f"Must have at least {MIN_SECRET_LENGTH} characters other than white space."
            )
        # White space around a token comes from an editor or a shell, and a line break would split a header.
        if not data.startswith("-----BEGIN ") and (data != data.strip() or not data.isprintable()):
            raise serializers.ValidationError(
                "Must be one line without white space around it; only a key in PEM format may have more lines."
            )
        return data
