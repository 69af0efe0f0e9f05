"""How the operators' API shows what there is."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from myctobot.tenants.models import AuditEntry
from shards.models.shard import Assignment, Pool, Shard, ShardTemplate
from shards.operations.models import Operation


class ShardSerializer(serializers.ModelSerializer[Shard]):
    """A shard: what is configured, and what it said of itself last."""

    template = serializers.CharField(source="template.name", default=None, allow_null=True)
    pool = serializers.CharField(source="pool.name", default=None, allow_null=True)
    queues: serializers.ListField = serializers.ListField(
        child=serializers.CharField(), help_text="The queues that it consumes: its class's, and its own."
    )
    usable_slots = serializers.IntegerField(help_text="The lesser of its limit here and what it says that it has.")
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
    """A shard as it is now, and sentences on what follows from the change."""

    shard = ShardSerializer()
    consequences: serializers.ListField = serializers.ListField(child=serializers.CharField())


class StepSerializer(serializers.Serializer[Any]):
    """Something that was begun, and when."""

    at = serializers.DateTimeField()
    text = serializers.CharField()


class OperationSerializer(serializers.ModelSerializer[Operation]):
    """Work on a shard's container, with what was done so far."""

    shard = serializers.CharField(source="shard.name")
    label = serializers.CharField(source="arguments.label", default=None, allow_null=True)  # type: ignore[assignment]  # part of the answer
    steps = StepSerializer(many=True)

    class Meta:
        model = Operation
        fields = [
            "id", "shard", "kind", "label", "state", "steps", "error", "requested_by", "requested_at", "started_at",
            "ended_at",
        ]  # fmt: skip


class ShardCreatedSerializer(serializers.Serializer[Any]):
    """A new shard, and the operation that makes its container, when that was asked for."""

    shard = ShardSerializer()
    operation = OperationSerializer(allow_null=True)


class DifferenceSerializer(serializers.Serializer[Any]):
    """One thing as it is configured here, and as the shard's worker reports it."""

    what = serializers.CharField()
    configured = serializers.CharField()
    reported = serializers.CharField()
    is_same = serializers.BooleanField()


class ConnectivitySerializer(serializers.Serializer[Any]):
    """Whether a shard's worker answers, and whether it is what is configured."""

    reachable = serializers.BooleanField()
    agrees = serializers.BooleanField(help_text="Whether all that was compared is the same.")
    round_trip_ms = serializers.FloatField(allow_null=True)
    problem = serializers.CharField(allow_blank=True)
    compared = DifferenceSerializer(many=True)
    running: serializers.ListField = serializers.ListField(child=serializers.CharField())
    last_heartbeat_at = serializers.DateTimeField(allow_null=True)


class LogLinesSerializer(serializers.Serializer[Any]):
    """The last lines of a worker's log, oldest first."""

    lines: serializers.ListField = serializers.ListField(child=serializers.CharField(allow_blank=True))


class SampleSerializer(serializers.Serializer[Any]):
    """How a shard was for a while: averages, but for the total memory, the least free disk and the slots."""

    at = serializers.DateTimeField()
    cpu_percent = serializers.FloatField()
    memory_mb = serializers.FloatField()
    memory_total_mb = serializers.IntegerField()
    disk_free_mb = serializers.IntegerField()
    running = serializers.FloatField()
    slots = serializers.IntegerField()


class SamplesSerializer(serializers.Serializer[Any]):
    """What a chart is drawn of, oldest first."""

    samples = SampleSerializer(many=True)


class AssignmentSerializer(serializers.ModelSerializer[Assignment]):
    """A tenant's right to the shard."""

    tenant = serializers.CharField(source="tenant.slug")

    class Meta:
        model = Assignment
        fields = ["tenant", "priority", "is_default"]


class AssignmentsSerializer(serializers.Serializer[Any]):
    """Who may use the shard, the one that prefers it most first."""

    assignments = AssignmentSerializer(many=True)


class EnrolmentTokenSerializer(serializers.Serializer[Any]):
    """A one-time token for a shard that is set up by hand, shown this once."""

    token = serializers.CharField()
    expires_in_s = serializers.IntegerField()


class ShardTemplateSerializer(serializers.ModelSerializer[ShardTemplate]):
    """What a new shard of a type has."""

    class Meta:
        model = ShardTemplate
        fields = [
            "name", "description", "shard_type", "capabilities", "mcp_servers", "image", "cpus", "memory_mb", "disk_mb",
            "processes", "max_concurrent_jobs",
        ]  # fmt: skip


class PoolSerializer(serializers.ModelSerializer[Pool]):
    """A pool, with how many shards it has that are not gone."""

    template = serializers.CharField(source="template.name", default=None, allow_null=True)
    shards = serializers.IntegerField(source="living")
    scaling_rules = serializers.JSONField(allow_null=True)

    class Meta:
        model = Pool
        fields = [
            "name", "description", "mode", "provider", "template", "scaling_rules", "scaling_dry_run", "shards",
            "created_at",
        ]  # fmt: skip


class AuditEntrySerializer(serializers.ModelSerializer[AuditEntry]):
    """Who changed what, and when; values of secrets are masked."""

    tenant = serializers.CharField(source="tenant.slug", default=None, allow_null=True)
    details = serializers.JSONField()

    class Meta:
        model = AuditEntry
        fields = ["id", "at", "actor", "action", "subject", "tenant", "details"]


class _PageSerializer(serializers.Serializer[Any]):
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)


class ShardPageSerializer(_PageSerializer):
    """A page of shards, the newest first."""

    results = ShardSerializer(many=True)


class OperationPageSerializer(_PageSerializer):
    """A page of operations, the newest first."""

    results = OperationSerializer(many=True)


class ShardTemplatePageSerializer(_PageSerializer):
    """A page of templates, the newest first."""

    results = ShardTemplateSerializer(many=True)


class PoolPageSerializer(_PageSerializer):
    """A page of pools, the newest first."""

    results = PoolSerializer(many=True)


class AuditPageSerializer(_PageSerializer):
    """A page of the audit log, newest first."""

    results = AuditEntrySerializer(many=True)
