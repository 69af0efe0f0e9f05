"""Strict building blocks: a wrong type or an unknown field is an error, never guessed at."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from jobs.contract import MIN_SECRET_LENGTH, is_slug
from jobs.secrets import SecretSource

MAX_SECRET_LENGTH = 20_000
_SECRET_NAME = re.compile(r"[A-Za-z0-9_-]{1,60}")


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses fields that it does not know, each by name."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            unknown = sorted(str(key) for key in set(data) - set(self.fields))
            if unknown:
                known = ", ".join(sorted(self.fields))
                raise serializers.ValidationError(
                    {name: [f"There is no such field here; known are: {known}."] for name in unknown}
                )
        return super().to_internal_value(data)


class StrictCharField(serializers.CharField):
    """Text only: no number becomes one. Keeps white space, and refuses NUL (as DRF does)."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trim_whitespace=False, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            raise serializers.ValidationError("Must be text.")
        try:
            data.encode()
        except UnicodeEncodeError as error:
            raise serializers.ValidationError("Must be well-formed Unicode text.") from error
        return str(super().to_internal_value(data))


class StrictIntegerField(serializers.IntegerField):
    """Whole numbers only: no text, float or truth value becomes one."""

    def to_internal_value(self, data: Any) -> int:
        if not isinstance(data, int) or isinstance(data, bool):
            raise serializers.ValidationError("Must be a whole number.")
        return int(super().to_internal_value(data))


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
    """A secret's value, or ``{"secret": "name"}`` for one that the tenant has stored. Never given back."""

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
        # A shorter one could not be masked in output without masking ordinary words.
        if len("".join(data.split())) < MIN_SECRET_LENGTH:
            raise serializers.ValidationError(
                f"Must have at least {MIN_SECRET_LENGTH} characters other than white space."
            )
        # What an editor or a shell left around a token is no part of it, and a line break would split a header.
        if not data.startswith("-----BEGIN ") and (data != data.strip() or not data.isprintable()):
            raise serializers.ValidationError(
                "Must be one line without white space around it; a key in PEM form alone has more lines."
            )
        return data


class CapabilitiesField(serializers.ListField):
    """One to twenty capability slugs; order and repetition mean nothing."""

    child = StrictCharField()

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_length=1, max_length=20, **kwargs)

    def to_internal_value(self, data: Any) -> list[str]:
        names: list[str] = super().to_internal_value(data)
        for name in names:
            if not is_slug(name):
                raise serializers.ValidationError(
                    f"'{name[:60]}' is no capability: a lower-case word such as git, filesystem or playwright."
                )
        return sorted(set(names))
