"""``/api/v1/queues``, ``/api/v1/shards/{name}/drain`` and the like: for operators."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from jobs import broker
from jobs.dispatch.queries import explain as overview
from myctobot.api.fields import StrictCharField, StrictSerializer
from myctobot.api.pagination import Pages, whole_number
from shards.api.base import OperatorView, checked
from shards.lifecycle.states import suspensions as closing
from shards.models.shard import Closure

_MOST_CLASSES = 200


class ClosureSerializer(serializers.ModelSerializer[Closure]):
    """A drain or a pause: of what, by whom, when and why; and who ended it."""

    shard = serializers.CharField(source="shard.name", default=None)
    pool = serializers.CharField(source="pool.name", default=None)

    class Meta:
        model = Closure
        fields = ["shard", "pool", "shard_class", "reason", "closed_by", "closed_at", "reopened_by", "reopened_at"]


class ClosurePageSerializer(serializers.Serializer[Any]):
    """A page of closures, newest first."""

    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    results = ClosureSerializer(many=True)


class ClassSerializer(serializers.Serializer[Any]):
    """How a class of shards stands."""

    queue = serializers.CharField()
    shards = serializers.IntegerField()
    well = serializers.IntegerField()
    slots = serializers.IntegerField()
    running = serializers.IntegerField()
    free = serializers.IntegerField()
    messages = serializers.IntegerField(allow_null=True, help_text="In the broker; null when it cannot be reached.")
    not_well = serializers.DictField(child=serializers.CharField(), help_text="Why, by the shard's name.")

    def get_fields(self) -> dict[str, Any]:
        # "class" is no name that Python takes.
        return {"class": serializers.CharField(), **super().get_fields()}


class LaneSerializer(serializers.Serializer[Any]):
    """Jobs that wait for the same capabilities, in the same state: ready, sent, time (parked) or key."""

    capabilities = serializers.CharField()
    state = serializers.CharField()
    jobs = serializers.IntegerField()
    oldest_s = serializers.IntegerField()


class QueuesSerializer(serializers.Serializer[Any]):
    """A page of classes by name, and what waits; give ``next`` as ``after`` to read on."""

    classes = ClassSerializer(many=True)
    waiting = LaneSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class ReasonSerializer(StrictSerializer):
    """Why, for whoever asks why jobs wait."""

    reason = StrictCharField(max_length=300)


class PlaceSerializer(StrictSerializer):
    """A pool or a class, one of them."""

    pool = StrictCharField(required=False)
    shard_class = StrictCharField(required=False, help_text="Such as filesystem+git.")


class PauseSerializer(PlaceSerializer):
    """What to pause, and why."""

    reason = StrictCharField(max_length=300)


def answer(closure: Closure | None) -> Response:
    """Tell of a closure; what is open again may be wanted at once."""
    broker.request_round()
    return Response(ClosureSerializer(closure).data if closure else {})


class Queues(OperatorView):
    @extend_schema(
        operation_id="queues_list",
        description="How classes of shards and waiting jobs stand. For operators.",
        parameters=[OpenApiParameter("after", str), OpenApiParameter("limit", int)],
        responses=QueuesSerializer,
    )
    def get(self, request: Request) -> Response:
        limit = max(1, whole_number(request, "limit", 100, _MOST_CLASSES))
        after = request.query_params.get("after", "")
        found = overview.queues()
        rows = [row for row in found["classes"] if row["class"] > after]
        following = rows[limit - 1]["class"] if len(rows) > limit else None
        return Response({"classes": rows[:limit], "waiting": found["waiting"][:1000], "next": following})


class QueuePause(OperatorView):
    @extend_schema(
        operation_id="queues_pause",
        description="Send nothing more to the shards of a pool or a class; what runs goes on. For operators.",
        request=PauseSerializer,
        responses=ClosureSerializer,
    )
    def post(self, request: Request) -> Response:
        return answer(closing.pause(**checked(request, PauseSerializer), by=str(request.user)))


class QueueResume(OperatorView):
    @extend_schema(
        operation_id="queues_resume",
        description="Undo a pause. For operators.",
        request=PlaceSerializer,
        responses=None,
    )
    def post(self, request: Request) -> Response:
        closing.unpause(**checked(request, PlaceSerializer), by=str(request.user))
        return answer(None)


class ShardDrain(OperatorView):
    @extend_schema(
        operation_id="shards_drain",
        description="Let a shard finish what it runs, and give it nothing more. For operators.",
        request=ReasonSerializer,
        responses=ClosureSerializer,
    )
    def post(self, request: Request, name: str) -> Response:
        reason = checked(request, ReasonSerializer)["reason"]
        return answer(closing.drain(name.replace("\x00", ""), by=str(request.user), reason=reason))


class ShardResume(OperatorView):
    @extend_schema(
        operation_id="shards_resume",
        description="Let a drained shard take jobs again. For operators.",
        request=None,
        responses=ClosureSerializer,
    )
    def post(self, request: Request, name: str) -> Response:
        closure = closing.resume(name.replace("\x00", ""), by=str(request.user))
        if closure is not None:
            closure.refresh_from_db()
        return answer(closure)


class Closures(OperatorView):
    @extend_schema(
        operation_id="closures_list",
        description="Drains and pauses, newest first, those that ended too. For operators.",
        parameters=[OpenApiParameter("cursor", str), OpenApiParameter("limit", int)],
        responses=ClosurePageSerializer,
    )
    def get(self, request: Request) -> Response:
        pages = Pages()
        page = pages.paginate_queryset(Closure.objects.select_related("shard", "pool"), request, view=self)
        return pages.get_paginated_response(ClosureSerializer(page, many=True).data)
