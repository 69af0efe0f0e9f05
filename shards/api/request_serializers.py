"""Serializers of the operators' requests; they check types strictly, and the services check values."""

from __future__ import annotations

from collections.abc import Mapping
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
from myctobot.contract.names import SLUG_PATTERN
from myctobot.tenants.models import Tenant
from shards.inventory.mcp_servers import SERVERS_SCHEMA
from shards.inventory.service import RESERVED
from shards.models import Pool, ShardTemplate, ShardType
from shards.models.resources import SPEC_SCHEMA
from shards.operations.models import OperationKind
from shards.operations.requests import NEEDS_LABEL
from shards.providers.base import CLEAN


class NamedReferenceField(serializers.Field[Any, Any, Any, Any]):
    """Field that reads the name of a row, such as a pool, and returns the row.

    Args:
        text_format: name that the schema gives to the names of these rows.
    """

    def __init__(self, model: type[Model], text_format: str, field: str = "name", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._model, self._field = model, field
        extend_schema_field({"type": "string", "format": text_format})(self)  # type: ignore[type-var]  # it takes fields

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
    """Field for a JSON object.

    Args:
        schema: description of the object by JSON Schema. The services check values.
    """

    def __init__(self, *, schema: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        extend_schema_field(dict(schema))(self)  # type: ignore[type-var]  # it takes fields

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, dict):
            raise serializers.ValidationError("Must be an object.")
        return super().to_internal_value(data)


class ShardChangeSerializer(StrictSerializer):
    """Change of a shard; omitted fields stay unchanged."""

    description = StrictCharField(required=False, allow_blank=True, max_length=2000)
    shard_type = serializers.ChoiceField(required=False, choices=ShardType.choices)
    template = NamedReferenceField(ShardTemplate, "shard-template", required=False, allow_null=True)
    pool = NamedReferenceField(Pool, "pool", required=False, allow_null=True)
    provider = StrictCharField(
        required=False,
        allow_blank=True,
        max_length=40,
        text_format="provider",
        help_text="Empty for a machine that no provider created.",
    )
    capabilities = CapabilitiesField(required=False)
    mcp_servers = ObjectField(
        required=False, schema=SERVERS_SCHEMA, help_text="As in config.json; added to the template's."
    )
    resource_spec = ObjectField(required=False, schema=SPEC_SCHEMA, help_text="Differences from the template.")
    max_concurrent_jobs = StrictIntegerField(required=False, min_value=1, max_value=64)
    is_active = StrictBooleanField(required=False)


class ShardCreateSerializer(ShardChangeSerializer):
    """New shard; omitted values come from its template."""

    rules = {
        "anyOf": [
            {"required": ["capabilities"]},
            {"properties": {"template": {"type": "string"}}, "required": ["template"]},
        ]
    }
    name = StrictCharField(
        pattern=f"(?!(?:{'|'.join(RESERVED)})$){SLUG_PATTERN}",
        max_length=40,
        help_text="A slug, but not the name of a path of the API.",
    )
    provision = StrictBooleanField(required=False, default=False, help_text="Provision its container at once.")


def _label_of(kind: OperationKind) -> dict[str, Any]:
    """Return the schema of the label of an operation, which allows none if the operation has none."""
    if kind not in NEEDS_LABEL:
        return {"not": {}}
    return {"not": {"const": CLEAN}} if kind == OperationKind.SNAPSHOT else {"type": "string"}


class OperationRequestSerializer(StrictSerializer):
    """Request for an operation on the shard's container. Those on snapshots need their label, and no other has one."""

    rules = {
        "oneOf": [
            {
                "properties": {"kind": {"const": kind.value}, "label": _label_of(kind)},
                "required": ["kind", "label"] if kind in NEEDS_LABEL else ["kind"],
            }
            for kind in OperationKind
        ]
    }
    kind = serializers.ChoiceField(choices=OperationKind.choices)
    label = StrictCharField(  # type: ignore[assignment]  # part of the request
        required=False, pattern=SLUG_PATTERN, max_length=40, help_text="Label of a snapshot."
    )
    force = StrictBooleanField(required=False, default=False, help_text="Running jobs may end.")


class AssignmentRequestSerializer(StrictSerializer):
    """Assignment of the shard to a tenant."""

    tenant = NamedReferenceField(Tenant, "tenant", "slug")
    priority = StrictIntegerField(required=False, default=100, min_value=0, max_value=32_767)
    is_default = StrictBooleanField(required=False, default=False)


class AssignmentRequestsSerializer(StrictSerializer):
    """Complete list of tenants that may use the shard."""

    assignments = AssignmentRequestSerializer(  # type: ignore[call-arg]  # an option of many=True
        many=True,
        max_length=1000,
        error_messages={"max_length": "Must have at most {max_length} entries; use a pool for more."},
    )
