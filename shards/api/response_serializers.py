"""Serializers of the operators' API responses."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from myctobot.tenants.models import AuditEntry
from shards.models import Assignment, Pool, Shard, ShardTemplate
from shards.operations.models import Operation


class ShardSerializer(serializers.ModelSerializer[Shard]):
    """Shard: its configuration and its last report."""

    template = serializers.CharField(source="template.name", default=None, allow_null=True)
    pool = serializers.CharField(source="pool.name", default=None, allow_null=True)
    queues: serializers.ListField = serializers.ListField(
        child=serializers.CharField(), help_text="Queues that it consumes: the queue of its class and its own."
    )
    usable_slots = serializers.IntegerField(help_text="The smaller of its configured limit and the reported slots.")
    report = serializers.JSONField(help_text="Its last heartbeat: cpu_percent, memory_mb, running, versions …")

    class Meta:
        model = Shard
        fields = [
            "name", "description", "shard_type", "template", "pool", "provider", "provider_ref", "capabilities",
            "shard_class", "queues", "mcp_servers", "resource_spec", "max_concurrent_jobs", "usable_slots", "is_active",
            "is_spare", "state", "state_since", "state_reason", "last_heartbeat_at", "steady_since", "report",
            "created_at",
        ]  # fmt: skip


class ShardChangedSerializer(serializers.Serializer[Any]):
    """Changed shard, and sentences about the consequences."""

    shard = ShardSerializer()
    consequences: serializers.ListField = serializers.ListField(child=serializers.CharField())


class StepSerializer(serializers.Serializer[Any]):
    """Step of an operation, and its start."""

    at = serializers.DateTimeField()
    text = serializers.CharField()


class OperationSerializer(serializers.ModelSerializer[Operation]):
    """Operation on a shard's container, with its steps so far."""

    shard = serializers.CharField(source="shard.name")
    label = serializers.CharField(source="arguments.label", default=None, allow_null=True)  # type: ignore[assignment]  # part of the response
    steps = StepSerializer(many=True)

    class Meta:
        model = Operation
        fields = [
            "id", "shard", "kind", "label", "state", "steps", "error", "requested_by", "requested_at", "started_at",
            "ended_at",
        ]  # fmt: skip


class ShardCreatedSerializer(serializers.Serializer[Any]):
    """New shard, and the operation that provisions it if requested."""

    shard = ShardSerializer()
    operation = OperationSerializer(allow_null=True)


class DifferenceSerializer(serializers.Serializer[Any]):
    """Comparison of one setting: the configured value and the value that the worker reports."""

    what = serializers.CharField(source="name")
    configured = serializers.CharField()
    reported = serializers.CharField()
    is_same = serializers.BooleanField()


class ConnectivitySerializer(serializers.Serializer[Any]):
    """Result of a connectivity test."""

    reachable = serializers.BooleanField()
    agrees = serializers.BooleanField(help_text="True if all compared settings are the same.")
    round_trip_ms = serializers.FloatField(allow_null=True)
    problem = serializers.CharField(allow_blank=True)
    compared = DifferenceSerializer(many=True)
    running: serializers.ListField = serializers.ListField(child=serializers.CharField())
    last_heartbeat_at = serializers.DateTimeField(allow_null=True)


class LogLinesSerializer(serializers.Serializer[Any]):
    """Last lines of a worker's log, oldest first."""

    lines: serializers.ListField = serializers.ListField(child=serializers.CharField(allow_blank=True))


class SampleSerializer(serializers.Serializer[Any]):
    """Load of a shard over an interval: averages, except maximum memory and slots and minimum free disk."""

    at = serializers.DateTimeField()
    cpu_percent = serializers.FloatField()
    memory_mb = serializers.FloatField()
    memory_total_mb = serializers.IntegerField()
    disk_free_mb = serializers.IntegerField()
    running = serializers.FloatField()
    slots = serializers.IntegerField()


class SamplesSerializer(serializers.Serializer[Any]):
    """Points of a chart, oldest first."""

    samples = SampleSerializer(many=True)


class AssignmentSerializer(serializers.ModelSerializer[Assignment]):
    """Assignment of the shard to a tenant."""

    tenant = serializers.CharField(source="tenant.slug")

    class Meta:
        model = Assignment
        fields = ["tenant", "priority", "is_default"]


class AssignmentsSerializer(serializers.Serializer[Any]):
    """Tenants that may use the shard, the lowest priority number first."""

    assignments = AssignmentSerializer(many=True)


class EnrolmentTokenSerializer(serializers.Serializer[Any]):
    """One-time token for a machine without a provider; it is not shown again."""

    token = serializers.CharField()
    expires_in_s = serializers.IntegerField()


class ShardTemplateSerializer(serializers.ModelSerializer[ShardTemplate]):
    """Template of new shards."""

    class Meta:
        model = ShardTemplate
        fields = [
            "name", "description", "shard_type", "capabilities", "mcp_servers", "image", "cpus", "memory_mb", "disk_mb",
            "processes", "max_concurrent_jobs",
        ]  # fmt: skip


class PoolSerializer(serializers.ModelSerializer[Pool]):
    """Pool, with the number of its shards that are not gone."""

    template = serializers.CharField(source="template.name", default=None, allow_null=True)
    shards = serializers.IntegerField(source="shard_count")
    scaling_rules = serializers.DictField(allow_null=True)

    class Meta:
        model = Pool
        fields = [
            "name", "description", "mode", "provider", "template", "scaling_rules", "scaling_dry_run", "shards",
            "created_at",
        ]  # fmt: skip


class AuditEntrySerializer(serializers.ModelSerializer[AuditEntry]):
    """Entry of the audit log; values of secrets are masked."""

    tenant = serializers.CharField(source="tenant.slug", default=None, allow_null=True)
    details = serializers.DictField()

    class Meta:
        model = AuditEntry
        fields = ["id", "at", "actor", "action", "subject", "tenant", "details"]


class _PageSerializer(serializers.Serializer[Any]):
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)


class ShardPageSerializer(_PageSerializer):
    """Page of shards, newest first."""

    results = ShardSerializer(many=True)


class OperationPageSerializer(_PageSerializer):
    """Page of operations, newest first."""

    results = OperationSerializer(many=True)


class ShardTemplatePageSerializer(_PageSerializer):
    """Page of templates, newest first."""

    results = ShardTemplateSerializer(many=True)


class PoolPageSerializer(_PageSerializer):
    """Page of pools, newest first."""

    results = PoolSerializer(many=True)


class AuditPageSerializer(_PageSerializer):
    """Page of the audit log, newest first."""

    results = AuditEntrySerializer(many=True)
