"""Strict building blocks of every API here: a wrong type or an unknown field is an error, never guessed at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from myctobot.contract.jobs import is_slug


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
