"""``/shard/v1/heartbeat``."""

from __future__ import annotations

import math
from typing import Any, Final

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from shards.api.authentication import ShardView
from shards.heartbeats import heartbeat

_MAX_MB: Final = 2**40
_MAX_PERCENT: Final = 100_000
_MAX_VERSIONS: Final = 20
_MAX_NAME: Final = 60


class HeartbeatSerializer(serializers.Serializer[Any]):
    """Bounds what a shard may store here; see ``HeartbeatRequest`` in the contract."""

    version = serializers.CharField(max_length=40)
    capabilities = serializers.ListField(child=serializers.CharField(max_length=40), max_length=40)
    slots = serializers.IntegerField(min_value=1, max_value=64)
    running = serializers.ListField(child=serializers.CharField(max_length=60), max_length=64)
    cpu_percent = serializers.FloatField(min_value=0, max_value=_MAX_PERCENT)
    memory_mb = serializers.IntegerField(min_value=0, max_value=_MAX_MB)
    memory_total_mb = serializers.IntegerField(min_value=0, max_value=_MAX_MB)
    disk_free_mb = serializers.IntegerField(min_value=0, max_value=_MAX_MB)
    versions = serializers.DictField(child=serializers.CharField(max_length=100))

    def validate_cpu_percent(self, value: float) -> float:
        # The text "nan" is a number to the field, and larger than no bound.
        if not math.isfinite(value):
            raise serializers.ValidationError("Must be a finite number.")
        return value

    def validate_versions(self, value: dict[str, str]) -> dict[str, str]:
        if len(value) > _MAX_VERSIONS or any(len(name) > _MAX_NAME for name in value):
            raise serializers.ValidationError(
                f"Must have at most {_MAX_VERSIONS} entries, with names of at most {_MAX_NAME} characters."
            )
        return value


class Heartbeat(ShardView):
    """Every 5 s from the shard's worker."""

    def post(self, request: Request) -> Response:
        body = HeartbeatSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        return Response(heartbeat(self.shard_of(request), dict(body.validated_data)))
