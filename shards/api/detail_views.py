"""``/api/v1/shards/{name}/…``: ask a shard, look into it, have its container worked on. For operators."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from myctobot.api.pagination import Pages, whole_number
from myctobot.lib.clock import database_now
from shards import remote_control as remote
from shards.api.base import OperatorView, checked, shard_named, who
from shards.api.request_serializers import OperationRequestSerializer, RightsSerializer
from shards.api.response_serializers import (
    AssignmentSerializer,
    AssignmentsSerializer,
    ConnectivitySerializer,
    EnrolmentTokenSerializer,
    LogLinesSerializer,
    OperationPageSerializer,
    OperationSerializer,
    SamplesSerializer,
)
from shards.inventory import service as managing
from shards.models.shard import Assignment, Shard
from shards.monitoring.sampling import series
from shards.operations.enrolment import TOKEN_LIFE, issue_token
from shards.operations.requests import request as request_operation

_MOST_MINUTES = 7 * 24 * 60
_POINTS = 240


class ShardTest(OperatorView):
    @extend_schema(
        operation_id="shards_test",
        description="Ask the shard's worker, for 3 s at most, and compare what it says with what is configured. "
        "For operators.",
        request=None,
        responses=ConnectivitySerializer,
    )
    def post(self, request: Request, name: str) -> Response:
        shard = shard_named(name)
        found = remote.connectivity(shard)
        body = ConnectivitySerializer({**_attributes(found), "last_heartbeat_at": shard.last_heartbeat_at})
        return Response(body.data)


class ShardLogs(OperatorView):
    @extend_schema(
        operation_id="shards_logs",
        description="The last lines of the log of the shard's worker. For operators.",
        parameters=[OpenApiParameter("lines", int, description=f"1 to {remote.MOST_LINES}; 100 when left out.")],
        responses=LogLinesSerializer,
    )
    def get(self, request: Request, name: str) -> Response:
        lines = max(1, whole_number(request, "lines", 100, remote.MOST_LINES))
        return Response({"lines": remote.tail_log(shard_named(name), lines)})


class ShardSamples(OperatorView):
    @extend_schema(
        operation_id="shards_samples",
        description="How the shard was in the last minutes; longer times in averages. For operators.",
        parameters=[OpenApiParameter("minutes", int, description=f"1 to {_MOST_MINUTES}; 60 when left out.")],
        responses=SamplesSerializer,
    )
    def get(self, request: Request, name: str) -> Response:
        minutes = max(1, whole_number(request, "minutes", 60, _MOST_MINUTES))
        since = database_now() - timedelta(minutes=minutes)
        return Response(SamplesSerializer({"samples": series(shard_named(name), since, _POINTS)}).data)


class ShardOperations(OperatorView):
    @extend_schema(
        operation_id="shards_operations_list",
        description="What was done to the shard's container, newest first. For operators.",
        parameters=[OpenApiParameter("cursor", str), OpenApiParameter("limit", int)],
        responses=OperationPageSerializer,
    )
    def get(self, request: Request, name: str) -> Response:
        pages = Pages()
        rows = shard_named(name).operations.select_related("shard")
        page = pages.paginate_queryset(rows, request, view=self)
        return pages.get_paginated_response(OperationSerializer(page, many=True).data)

    @extend_schema(
        operation_id="shards_operations_create",
        description="Have something done to the shard's container; its steps are in the list. For operators.",
        request=OperationRequestSerializer,
        responses={202: OperationSerializer},
    )
    def post(self, request: Request, name: str) -> Response:
        asked = checked(request, OperationRequestSerializer)
        operation = request_operation(shard_named(name), asked.pop("kind"), by=who(request), **asked)
        operation.refresh_from_db()
        return Response(OperationSerializer(operation).data, status=status.HTTP_202_ACCEPTED)


class ShardAssignments(OperatorView):
    @extend_schema(
        operation_id="shards_assignments_list",
        description="Which tenants may use the shard, beside those of its pool. For operators.",
        responses=AssignmentsSerializer,
    )
    def get(self, request: Request, name: str) -> Response:
        return Response(_assignments(shard_named(name)))

    @extend_schema(
        operation_id="shards_assignments_replace",
        description="Let exactly these tenants use the shard. For operators.",
        request=RightsSerializer,
        responses=AssignmentsSerializer,
    )
    def put(self, request: Request, name: str) -> Response:
        shard = shard_named(name)
        rights = [managing.Right(**right) for right in checked(request, RightsSerializer)["assignments"]]
        managing.assign(shard, rights, by=who(request))
        return Response(_assignments(shard))


class ShardEnrolment(OperatorView):
    @extend_schema(
        operation_id="shards_enrolment_create",
        description="Make a one-time token for a shard that is set up by hand; ends those it had. For operators.",
        request=None,
        responses={201: EnrolmentTokenSerializer},
    )
    def post(self, request: Request, name: str) -> Response:
        token = issue_token(shard_named(name), by=who(request))
        body = {"token": token, "expires_in_s": int(TOKEN_LIFE.total_seconds())}
        return Response(body, status=status.HTTP_201_CREATED, headers={"Cache-Control": "no-store"})


class ShardActivation(OperatorView):
    @extend_schema(
        operation_id="shards_activate",
        description="Let a spare take jobs. For operators.",
        request=None,
        responses={204: None},
    )
    def post(self, request: Request, name: str) -> Response:
        managing.activate(shard_named(name), by=who(request))
        return Response(status=status.HTTP_204_NO_CONTENT)


def _attributes(found: remote.Connectivity) -> dict[str, Any]:
    return {**vars(found), "reachable": found.reachable, "agrees": found.agrees}


def _assignments(shard: Shard) -> dict[str, Any]:
    # As many as one call may set.
    rows = Assignment.objects.filter(shard=shard).select_related("tenant").order_by("priority", "tenant__slug")[:1000]
    return {"assignments": AssignmentSerializer(rows, many=True).data}
