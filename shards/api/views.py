"""``/shard/v1/heartbeat``."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from shards.api.authentication import ShardView
from shards.heartbeats import heartbeat


class HeartbeatSerializer(serializers.Serializer[Any]):
    """Bounds what a shard may store here; see ``HeartbeatRequest`` in the contract."""

    version = serializers.CharField(max_length=40)
    capabilities = serializers.ListField(child=serializers.CharField(max_length=40), max_length=40)
    slots = serializers.IntegerField(min_value=1, max_value=64)
    running = serializers.ListField(child=serializers.CharField(max_length=60), max_length=64)
    cpu_percent = serializers.FloatField(min_value=0)
    memory_mb = serializers.IntegerField(min_value=0)
    memory_total_mb = serializers.IntegerField(min_value=0)
    disk_free_mb = serializers.IntegerField(min_value=0)
    versions = serializers.DictField(child=serializers.CharField(max_length=100))


class Heartbeat(ShardView):
    """Every 5 s from the shard's worker."""

    def post(self, request: Request) -> Response:
        body = HeartbeatSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        return Response(heartbeat(self.shard_of(request), dict(body.validated_data)))
