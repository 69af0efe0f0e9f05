"""What operators may ask of the API, read strictly; what the services check themselves is left to them."""

from __future__ import annotations

from typing import Any

from django.db.models import Model
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from myctobot.api.fields import CapabilitiesField, StrictCharField, StrictIntegerField, StrictSerializer
from myctobot.tenants.models import Tenant
from shards.models.shard import Pool, ShardTemplate, ShardType
from shards.operations.models import OperationKind


@extend_schema_field({"type": "string"})
class NameOf(serializers.Field[Any, Any, Any, Any]):
    """The name of a row, such as a pool's; becomes the row."""

    def __init__(self, model: type[Model], field: str = "name", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._model, self._field = model, field

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str) or "\x00" in data:
            raise serializers.ValidationError("Must be text.")
        rows = self._model._default_manager.order_by(self._field)
        found = rows.filter(**{self._field: data}).first()
        if found is None:
            what = self._model._meta.verbose_name
            known = ", ".join(rows.values_list(self._field, flat=True)[:20]) or "none"
            raise serializers.ValidationError(f"There is no {what} “{data[:60]}”; there are: {known}.")
        return found

    def to_representation(self, value: Any) -> str:
        return str(getattr(value, self._field))


class ObjectField(serializers.JSONField):
    """A JSON object."""

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, dict):
            raise serializers.ValidationError("Must be an object.")
        return super().to_internal_value(data)


class StrictBooleanField(serializers.BooleanField):
    """true or false; no text or number becomes one."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            raise serializers.ValidationError("Must be true or false.")
        return data


class ShardChangeSerializer(StrictSerializer):
    """What of a shard can be changed; what is left out stays."""

    description = StrictCharField(required=False, allow_blank=True, max_length=2000)
    shard_type = serializers.ChoiceField(required=False, choices=ShardType.choices)
    template = NameOf(ShardTemplate, required=False, allow_null=True)
    pool = NameOf(Pool, required=False, allow_null=True)
    provider = StrictCharField(required=False, allow_blank=True, max_length=40)
    capabilities = CapabilitiesField(required=False)
    mcp_servers = ObjectField(required=False, help_text="As in config.json; beside the template's.")
    resource_spec = ObjectField(required=False, help_text="What differs from the template: cpus, memory_mb …")
    max_concurrent_jobs = StrictIntegerField(required=False, min_value=1, max_value=64)
    is_active = StrictBooleanField(required=False)


class ShardCreateSerializer(ShardChangeSerializer):
    """A new shard; what is left out comes from its template."""

    name = StrictCharField(max_length=40)
    provision = StrictBooleanField(required=False, default=False, help_text="Have its container made at once.")


class OperationRequestSerializer(StrictSerializer):
    """What to do to the shard's container."""

    kind = serializers.ChoiceField(choices=OperationKind.choices)
    label = StrictCharField(required=False, max_length=40, help_text="Of a snapshot.")  # type: ignore[assignment]  # part of the request
    force = StrictBooleanField(required=False, default=False, help_text="Jobs that run there may end.")


class RightSerializer(StrictSerializer):
    """A tenant's right to the shard."""

    tenant = NameOf(Tenant, "slug")
    priority = StrictIntegerField(required=False, default=100, min_value=0, max_value=32_767)
    is_default = StrictBooleanField(required=False, default=False)


class RightsSerializer(StrictSerializer):
    """Exactly the tenants that may use the shard."""

    assignments = RightSerializer(many=True)

    def validate_assignments(self, rights: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if len(rights) > 1000:
            raise serializers.ValidationError("Must have at most 1000 entries; use a pool for more.")
        return rights
