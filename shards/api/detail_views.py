"""``/api/v1/shards/{name}/…``: connectivity, logs, samples, operations and assignments of a shard, for operators."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from myctobot.api.pagination import PAGED, PAGES, Pages
from myctobot.api.parameters import WholeNumber
from myctobot.lib.clock import database_now
from shards import permissions, remote_control
from shards.api.base import OperatorView, actor, get_shard, read_body
from shards.api.request_serializers import AssignmentRequestsSerializer, OperationRequestSerializer
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
from shards.errors import DefaultTaken, InsecureLink, NoAnswer, OperationUnderWay, UnknownShard, WrongState
from shards.inventory import service
from shards.models import Assignment, Shard
from shards.monitoring.sampling import series
from shards.operations.enrolment import TOKEN_LIFE, issue_token
from shards.operations.requests import request as request_operation
from shards.providers.registry import ProviderNotConfigured, UnknownProvider

_LINES: Final = WholeNumber("lines", 1, remote_control.MAX_LINES, 100, description="Number of lines.")
_MINUTES: Final = WholeNumber("minutes", 1, 7 * 24 * 60, 60, description="Minutes before now.")
_POINTS = 240
_OPERATION_ERRORS: Final = (UnknownShard, UnknownProvider, ProviderNotConfigured, WrongState, OperationUnderWay)


class ShardTest(OperatorView):
    needs = {"POST": (permissions.TEST,)}
    errors = {"POST": (UnknownShard, NoAnswer)}

    @extend_schema(
        operation_id="shards_test",
        description="Test whether the shard's worker answers, and compare its settings with the configuration. Takes "
        "at most 6 s. For operators.",
        request=None,
        responses=ConnectivitySerializer,
    )
    def post(self, request: Request, name: str) -> Response:
        shard = get_shard(name)
        found = remote_control.connectivity(shard)
        body = ConnectivitySerializer({**_attributes(found), "last_heartbeat_at": shard.last_heartbeat_at})
        return Response(body.data)


class ShardLogs(OperatorView):
    needs = {"GET": (permissions.READ_LOG,)}
    errors = {"GET": (UnknownShard, NoAnswer)}
    query = {"GET": (_LINES,)}

    @extend_schema(
        operation_id="shards_logs",
        description="Read the last lines of the worker's log. For operators.",
        responses=LogLinesSerializer,
    )
    def get(self, request: Request, name: str) -> Response:
        lines = _LINES.read(request.query_params)
        return Response({"lines": remote_control.tail_log(get_shard(name), lines)})


class ShardSamples(OperatorView):
    needs = {"GET": (permissions.VIEW_SHARD,)}
    errors = {"GET": (UnknownShard,)}
    query = {"GET": (_MINUTES,)}

    @extend_schema(
        operation_id="shards_samples",
        description="Load of the shard in the last minutes, averaged over longer times. For operators.",
        responses=SamplesSerializer,
    )
    def get(self, request: Request, name: str) -> Response:
        minutes = _MINUTES.read(request.query_params)
        since = database_now() - timedelta(minutes=minutes)
        return Response(SamplesSerializer({"samples": series(get_shard(name), since, _POINTS)}).data)


class ShardOperations(OperatorView):
    needs = {"GET": (permissions.VIEW_SHARD,), "POST": (permissions.OPERATE,)}
    errors = {"GET": (UnknownShard,), "POST": _OPERATION_ERRORS}
    query = {"GET": PAGED}

    @extend_schema(
        operation_id="shards_operations_list",
        description=f"Operations on the shard's container, newest first. {PAGES} For operators.",
        responses=OperationPageSerializer,
    )
    def get(self, request: Request, name: str) -> HttpResponse:
        return Pages().respond(get_shard(name).operations.select_related("shard"), request, OperationSerializer)

    @extend_schema(
        operation_id="shards_operations_create",
        description="Request an operation on the shard's container. The list shows its steps. For operators.",
        request=OperationRequestSerializer,
        responses={202: OperationSerializer},
    )
    def post(self, request: Request, name: str) -> Response:
        body = read_body(request, OperationRequestSerializer)
        operation = request_operation(get_shard(name), body.pop("kind"), by=actor(request), **body)
        operation.refresh_from_db()
        return Response(OperationSerializer(operation).data, status=status.HTTP_202_ACCEPTED)


class ShardAssignments(OperatorView):
    needs = {"GET": (permissions.VIEW_ASSIGNMENT,), "PUT": permissions.REPLACE_ASSIGNMENTS}
    errors = {"GET": (UnknownShard,), "PUT": (UnknownShard, DefaultTaken)}

    @extend_schema(
        operation_id="shards_assignments_list",
        description="Tenants that may use the shard, in addition to those of its pool. For operators.",
        responses=AssignmentsSerializer,
    )
    def get(self, request: Request, name: str) -> Response:
        return Response(_assignments(get_shard(name)))

    @extend_schema(
        operation_id="shards_assignments_replace",
        description="Let exactly these tenants use the shard. For operators.",
        request=AssignmentRequestsSerializer,
        responses=AssignmentsSerializer,
    )
    def put(self, request: Request, name: str) -> Response:
        shard = get_shard(name)
        rows = read_body(request, AssignmentRequestsSerializer)["assignments"]
        service.assign(shard, [service.AssignmentRequest(**row) for row in rows], by=actor(request))
        return Response(_assignments(shard))


class ShardEnrolment(OperatorView):
    needs = {"POST": (permissions.ISSUE_TOKEN,)}
    errors = {"POST": (UnknownShard, WrongState, InsecureLink)}

    @extend_schema(
        operation_id="shards_enrolment_create",
        description="Issue a one-time token for a machine without a provider; earlier tokens become invalid. "
        "For operators.",
        request=None,
        responses={201: EnrolmentTokenSerializer},
    )
    def post(self, request: Request, name: str) -> Response:
        token = issue_token(get_shard(name), by=actor(request))
        body = {"token": token, "expires_in_s": int(TOKEN_LIFE.total_seconds())}
        return Response(body, status=status.HTTP_201_CREATED, headers={"Cache-Control": "no-store"})


class ShardActivation(OperatorView):
    needs = {"POST": (permissions.ACTIVATE,)}
    errors = {"POST": (UnknownShard, WrongState)}

    @extend_schema(
        operation_id="shards_activate",
        description="Let a warm spare take jobs. For operators.",
        request=None,
        responses={204: None},
    )
    def post(self, request: Request, name: str) -> Response:
        service.activate(get_shard(name), by=actor(request))
        return Response(status=status.HTTP_204_NO_CONTENT)


def _attributes(found: remote_control.Connectivity) -> dict[str, Any]:
    return {**vars(found), "reachable": found.reachable, "agrees": found.agrees}


def _assignments(shard: Shard) -> dict[str, Any]:
    # One call may set at most this many.
    rows = Assignment.objects.filter(shard=shard).select_related("tenant").order_by("priority", "tenant__slug")[:1000]
    return {"assignments": AssignmentSerializer(rows, many=True).data}
