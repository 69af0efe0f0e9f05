"""View of ``/api/v1/queues`` for operators."""

from __future__ import annotations

from typing import Any, Final

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from jobs.queue import class_status
from myctobot.api.parameters import WholeNumber
from shards import permissions
from shards.api.base import OperatorView

_AFTER: Final = OpenApiParameter("after", str, description="The value of `next` in the page before.")
_LIMIT: Final = WholeNumber("limit", 1, 200, 100, description="Maximum number of classes.")


class ClassSerializer(serializers.Serializer[Any]):
    """Status of a class of shards."""

    queue = serializers.CharField()
    shards = serializers.IntegerField()
    healthy = serializers.IntegerField()
    slots = serializers.IntegerField()
    running = serializers.IntegerField()
    free = serializers.IntegerField()
    messages = serializers.IntegerField(allow_null=True, help_text="In the broker; null if it is unreachable.")
    unhealthy = serializers.DictField(child=serializers.CharField(), help_text="Reason, by the name of the shard.")

    def get_fields(self) -> dict[str, Any]:
        # Python reserves the word "class".
        return {"class": serializers.CharField(), **super().get_fields()}


class LaneSerializer(serializers.Serializer[Any]):
    """Jobs that wait for the same capabilities, in the same state: ready, sent, time (parked) or key."""

    capabilities = serializers.CharField()
    state = serializers.CharField()
    jobs = serializers.IntegerField()
    oldest_s = serializers.IntegerField()


class QueuesSerializer(serializers.Serializer[Any]):
    """A page of classes by name, and the waiting jobs; send ``next`` as ``after`` for the following page."""

    classes = ClassSerializer(many=True)
    waiting = LaneSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class Queues(OperatorView):
    needs = {"GET": (permissions.VIEW_SHARD,)}
    query = {"GET": (_AFTER, _LIMIT)}

    @extend_schema(
        operation_id="queues_list",
        description="Status of the shard classes and of the waiting jobs. For operators.",
        responses=QueuesSerializer,
    )
    def get(self, request: Request) -> Response:
        limit = _LIMIT.read(request.query_params)
        after = request.query_params.get("after", "")
        found = class_status.queues()
        rows = [row for row in found["classes"] if row["class"] > after]
        following = rows[limit - 1]["class"] if len(rows) > limit else None
        return Response({"classes": rows[:limit], "waiting": found["waiting"][:1000], "next": following})
