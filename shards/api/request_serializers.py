"""Serializers of the operators' requests; they check types strictly, and the services check values."""

from __future__ import annotations

from typing import Any

from django.db.models import Model
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from myctobot.api.fields import (
    CapabilitiesField,
    StrictBooleanField,
    StrictCharField,
    StrictIntegerField,
    StrictSerializer,
)
from myctobot.tenants.models import Tenant
from shards.models import Pool, ShardTemplate, ShardType
from shards.operations.models import OperationKind


@extend_schema_field({"type": "string"})
class NamedReferenceField(serializers.Field[Any, Any, Any, Any]):
    """Field that reads the name of a row, such as a pool, and returns the row."""

    def __init__(self, model: type[Model], field: str = "name", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._model, self._field = model, field

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str) or "\x00" in data:
            raise serializers.ValidationError("Must be text.")
        rows = self._model._default_manager.order_by(self._field)
        found = rows.filter(**{self._field: data}).first()
        if found is None:
            noun = self._model._meta.verbose_name
            known = ", ".join(rows.values_list(self._field, flat=True)[:20]) or "none"
            raise serializers.ValidationError(f"There is no {noun} “{data[:60]}”; there are: {known}.")
        return found

    def to_representation(self, value: Any) -> str:
        return str(getattr(value, self._field))


class ObjectField(serializers.JSONField):
    """Field for a JSON object."""

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, dict):
            raise serializers.ValidationError("Must be an object.")
        return super().to_internal_value(data)


class ShardChangeSerializer(StrictSerializer):
    """Change of a shard; omitted fields stay unchanged."""

    description = StrictCharField(required=False, allow_blank=True, max_length=2000)
    shard_type = serializers.ChoiceField(required=False, choices=ShardType.choices)
    template = NamedReferenceField(ShardTemplate, required=False, allow_null=True)
    pool = NamedReferenceField(Pool, required=False, allow_null=True)
    provider = StrictCharField(required=False, allow_blank=True, max_length=40)
    capabilities = CapabilitiesField(required=False)
    mcp_servers = ObjectField(required=False, help_text="As in config.json; added to the template's.")
    resource_spec = ObjectField(required=False, help_text="Differences from the template: cpus, memory_mb …")
    max_concurrent_jobs = StrictIntegerField(required=False, min_value=1, max_value=64)
    is_active = StrictBooleanField(required=False)


class ShardCreateSerializer(ShardChangeSerializer):
    """New shard; omitted values come from its template."""

    name = StrictCharField(max_length=40)
    provision = StrictBooleanField(required=False, default=False, help_text="Provision its container at once.")


class OperationRequestSerializer(StrictSerializer):
    """Request for an operation on the shard's container."""

    kind = serializers.ChoiceField(choices=OperationKind.choices)
    label = StrictCharField(required=False, max_length=40, help_text="Label of a snapshot.")  # type: ignore[assignment]  # part of the request
    force = StrictBooleanField(required=False, default=False, help_text="Running jobs may end.")


class AssignmentRequestSerializer(StrictSerializer):
    """Assignment of the shard to a tenant."""

    tenant = NamedReferenceField(Tenant, "slug")
    priority = StrictIntegerField(required=False, default=100, min_value=0, max_value=32_767)
    is_default = StrictBooleanField(required=False, default=False)


class AssignmentRequestsSerializer(StrictSerializer):
    """Complete list of tenants that may use the shard."""

    assignments = AssignmentRequestSerializer(  # type: ignore[call-arg]  # an option of many=True
        many=True,
        max_length=1000,
        error_messages={"max_length": "Must have at most {max_length} entries; use a pool for more."},
    )
