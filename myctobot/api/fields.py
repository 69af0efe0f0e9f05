"""Strict serializer fields of the REST APIs: a wrong type or an unknown field is an error."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Final

from rest_framework import serializers
from rest_framework.settings import api_settings

from myctobot.contract.names import SLUG_PATTERN, is_slug
from myctobot.lib.shortlist import MAX_NAMES

# The pattern that the schema names; Python's own parser accepts weeks, dates alone and other digits.
TIME_PATTERN: Final = (
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?([Zz]|[+-][0-9]{2}:[0-9]{2})?"
)
_TIME: Final = re.compile(TIME_PATTERN)


class StrictSerializer(serializers.Serializer[Any]):
    """Serializer that refuses unknown fields. It names the first ones, and counts the others.

    Attributes:
        rules: keywords of JSON Schema for rules between fields, for the schema. ``validate`` or a service checks them.
    """

    rules: ClassVar[Mapping[str, Any]] = {}

    def to_internal_value(self, data: Any) -> Any:
        known = set(self.fields)
        if isinstance(data, Mapping) and (unknown := [str(name) for name in data if name not in known]):
            raise serializers.ValidationError(self._unknown_fields(unknown))
        return super().to_internal_value(data)

    def _unknown_fields(self, unknown: list[str]) -> dict[str, list[str]]:
        known = ", ".join(sorted(self.fields))
        # The first ones sent, because a caller can send many and sorting them would take longer than reading them.
        problems = {name: [f"Unknown field; the known fields are: {known}."] for name in unknown[:MAX_NAMES]}
        if (others := len(unknown) - MAX_NAMES) > 0:
            problems[api_settings.NON_FIELD_ERRORS_KEY] = [f"Has {others} more unknown fields."]
        return problems


class StrictCharField(serializers.CharField):
    """Text field that accepts no number. It keeps white space and, like DRF, refuses NUL.

    Args:
        pattern: regular expression that the schema names, without anchors. A validator checks it.
        text_format: name that the schema gives to rules that no pattern can express. A validator checks them.
        max_bytes: maximum size in UTF-8.
    """

    def __init__(
        self, *, pattern: str | None = None, text_format: str | None = None, max_bytes: int | None = None, **kwargs: Any
    ) -> None:
        self.pattern, self.text_format, self.max_bytes = pattern, text_format, max_bytes
        super().__init__(trim_whitespace=False, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            raise serializers.ValidationError("Must be text.")
        try:
            size = len(data.encode())
        except UnicodeEncodeError as error:
            raise serializers.ValidationError("Must be well-formed Unicode text.") from error
        if self.max_bytes is not None and size > self.max_bytes:
            raise serializers.ValidationError(f"Has {size} bytes; the maximum is {self.max_bytes}.")
        return str(super().to_internal_value(data))


class StrictIntegerField(serializers.IntegerField):
    """Field for whole numbers that accepts no text, fraction or boolean. In JSON, 5.0 is the same number as 5."""

    def to_internal_value(self, data: Any) -> int:
        is_whole = data.is_integer() if isinstance(data, float) else isinstance(data, int)
        if not is_whole or isinstance(data, bool):
            raise serializers.ValidationError("Must be a whole number.")
        return int(super().to_internal_value(int(data)))


class StrictDateTimeField(serializers.DateTimeField):
    """Field for a time of RFC 3339. Seconds and the zone may be absent; without a zone it is UTC."""

    default_error_messages = {"invalid": "Must be a time of RFC 3339, such as 2027-01-31T08:30:00Z."}

    def to_internal_value(self, data: Any) -> datetime:
        if not isinstance(data, str) or not _TIME.fullmatch(data):
            self.fail("invalid")
        try:
            # The standard allows lower-case letters.
            return self.enforce_timezone(datetime.fromisoformat(data.upper()))
        except ValueError:
            self.fail("invalid")


class StrictBooleanField(serializers.BooleanField):
    """Field for true or false; texts and numbers are not converted."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            raise serializers.ValidationError("Must be true or false.")
        return data


class BoundedListField(serializers.ListField):
    """List field that counts the entries before it checks them, because each wrong one costs an error."""

    def to_internal_value(self, data: Any) -> Any:
        if self.max_length is not None and isinstance(data, list) and len(data) > self.max_length:
            self.fail("max_length", max_length=self.max_length)
        return super().to_internal_value(data)


class CapabilitiesField(BoundedListField):
    """List of one to twenty capability slugs, sorted and without repetition."""

    child = StrictCharField(pattern=SLUG_PATTERN, text_format="capability")

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_length=1, max_length=20, **kwargs)

    def to_internal_value(self, data: Any) -> list[str]:
        names: list[str] = super().to_internal_value(data)
        for name in names:
            if not is_slug(name):
                raise serializers.ValidationError(
                    f"'{name[:60]}' is not a capability, which is a lower-case word such as git or filesystem."
                )
        return sorted(set(names))
