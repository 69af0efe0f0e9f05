"""API of drains and pauses: start, end and list them, for operators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from myctobot.api.fields import StrictCharField, StrictSerializer
from myctobot.api.pagination import PAGED, PAGES, Pages
from myctobot.lib.patterns import NOT_BLANK_PATTERN
from myctobot.messaging import send_to_control
from myctobot.tenants.permissions import require
from shards import permissions
from shards.api.base import OperatorView, read_body
from shards.errors import AlreadySuspended, NothingToResume, UnknownShard, WrongState
from shards.lifecycle import suspensions
from shards.models import Suspension

# Permission by the field that names the target.
_BY_TARGET: Final = {"pool": permissions.PAUSE_POOL, "shard_class": permissions.PAUSE_CLASS}


class SuspensionSerializer(serializers.ModelSerializer[Suspension]):
    """Drain or pause, with its actor, reason and end."""

    shard = serializers.CharField(source="shard.name", default=None, allow_null=True)
    pool = serializers.CharField(source="pool.name", default=None, allow_null=True)

    class Meta:
        model = Suspension
        fields = ["shard", "pool", "shard_class", "reason", "suspended_by", "suspended_at", "resumed_by", "resumed_at"]


class SuspensionPageSerializer(serializers.Serializer[Any]):
    """Page of suspensions, newest first."""

    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    results = SuspensionSerializer(many=True)


# A shard may drain without a suspension, and then its end is an empty object.
_RESUMED: Final = {"oneOf": [{"$ref": "#/components/schemas/Suspension"}, {"type": "object", "maxProperties": 0}]}


class ReasonField(StrictCharField):
    """Reason of a suspension, which is not blank."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(pattern=NOT_BLANK_PATTERN, max_length=suspensions.MAX_REASON, **kwargs)


class ReasonSerializer(StrictSerializer):
    """Reason, shown to members whose jobs wait."""

    reason = ReasonField()


class PauseTargetSerializer(StrictSerializer):
    """Exactly one pool or class."""

    rules = {"oneOf": [{"required": ["pool"]}, {"required": ["shard_class"]}]}
    pool = StrictCharField(required=False, text_format="pool", help_text="Name of a pool.")
    shard_class = StrictCharField(
        required=False, text_format="shard-class", help_text="Class of some shard. For example, filesystem+git."
    )


class PauseSerializer(PauseTargetSerializer):
    """Pool or class to pause, and the reason."""

    reason = ReasonField()


def respond(suspension: Suspension | None) -> Response:
    """Return a suspension, and request a dispatch round, because a resumed shard may take waiting jobs."""
    send_to_control("jobs.dispatch_round")
    return Response(SuspensionSerializer(suspension).data if suspension else {})


def _check_target(request: Request, body: Mapping[str, Any]) -> None:
    # Check every named target, so that no reading of an ambiguous body can escape the check.
    require(request.user, *(needed for field, needed in _BY_TARGET.items() if field in body))


class QueuePause(OperatorView):
    needs = {"POST": tuple(_BY_TARGET.values())}
    target_decides = True
    errors = {"POST": (AlreadySuspended,)}

    @extend_schema(
        operation_id="queues_pause",
        description="Stop dispatch to the shards of a pool or a class. Running jobs continue. For operators.",
        request=PauseSerializer,
        responses=SuspensionSerializer,
    )
    def post(self, request: Request) -> Response:
        body = read_body(request, PauseSerializer)
        _check_target(request, body)
        return respond(suspensions.pause(**body, by=str(request.user)))


class QueueResume(OperatorView):
    needs = {"POST": tuple(_BY_TARGET.values())}
    target_decides = True
    errors = {"POST": (NothingToResume,)}

    @extend_schema(
        operation_id="queues_resume",
        description="End a pause. For operators.",
        request=PauseTargetSerializer,
        responses=OpenApiTypes.OBJECT,
    )
    def post(self, request: Request) -> Response:
        body = read_body(request, PauseTargetSerializer)
        _check_target(request, body)
        suspensions.unpause(**body, by=str(request.user))
        return respond(None)


class ShardDrain(OperatorView):
    needs = {"POST": (permissions.DRAIN,)}
    errors = {"POST": (UnknownShard, AlreadySuspended, WrongState)}

    @extend_schema(
        operation_id="shards_drain",
        description="Let a shard finish its jobs and take no new ones. For operators.",
        request=ReasonSerializer,
        responses=SuspensionSerializer,
    )
    def post(self, request: Request, name: str) -> Response:
        reason = read_body(request, ReasonSerializer)["reason"]
        return respond(suspensions.drain(name.replace("\x00", ""), by=str(request.user), reason=reason))


class ShardResume(OperatorView):
    needs = {"POST": (permissions.RESUME,)}
    errors = {"POST": (UnknownShard, NothingToResume, WrongState)}

    @extend_schema(
        operation_id="shards_resume",
        description="Let a drained shard take jobs again. For operators.",
        request=None,
        responses={200: _RESUMED},
    )
    def post(self, request: Request, name: str) -> Response:
        suspension = suspensions.resume(name.replace("\x00", ""), by=str(request.user))
        if suspension is not None:
            suspension.refresh_from_db()
        return respond(suspension)


class Suspensions(OperatorView):
    needs = {"GET": (permissions.VIEW_SUSPENSION,)}
    query = {"GET": PAGED}

    @extend_schema(
        operation_id="suspensions_list",
        description=f"Drains and pauses, newest first, including those that have ended. {PAGES} For operators.",
        responses=SuspensionPageSerializer,
    )
    def get(self, request: Request) -> HttpResponse:
        return Pages().respond(Suspension.objects.select_related("shard", "pool"), request, SuspensionSerializer)
