"""``/api/v1/shards``: list, add, read, change and remove shards, for operators."""

from __future__ import annotations

from typing import Any, Final

from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from myctobot.api.pagination import PAGED, PAGES, Pages
from myctobot.api.parameters import Choice
from shards import permissions
from shards.api.base import OperatorView, actor, get_shard, read_body
from shards.api.request_serializers import ShardChangeSerializer, ShardCreateSerializer
from shards.api.response_serializers import (
    OperationSerializer,
    ShardChangedSerializer,
    ShardCreatedSerializer,
    ShardPageSerializer,
    ShardSerializer,
)
from shards.errors import (
    BrokerRefused,
    BrokerTooOld,
    BrokerUnreachable,
    InsecureLink,
    OperationUnderWay,
    ShardExists,
    ShardInUse,
    UnknownShard,
    WrongState,
)
from shards.inventory import service
from shards.models import Shard, ShardState, ShardTemplate
from shards.operations.models import Operation, OperationKind
from shards.operations.requests import request as request_operation
from shards.providers.registry import ProviderNotConfigured, UnknownProvider

_STATE: Final = Choice("state", ShardState.values)
_FILTERS: Final = {"pool": "pool__name", "provider": "provider", "class": "shard_class"}


class Shards(OperatorView):
    needs = {"GET": (permissions.VIEW_SHARD,), "POST": (permissions.ADD_SHARD,)}
    errors = {
        "POST": (ShardExists, UnknownProvider, ProviderNotConfigured, WrongState, OperationUnderWay, InsecureLink)
    }
    query = {"GET": (_STATE, *(OpenApiParameter(name, str) for name in _FILTERS), *PAGED)}

    @extend_schema(
        operation_id="shards_list",
        description=f"Shards, newest first. {PAGES} For operators.",
        responses=ShardPageSerializer,
    )
    def get(self, request: Request) -> HttpResponse:
        return Pages().respond(_filtered(request), request, ShardSerializer)

    @extend_schema(
        operation_id="shards_create",
        description=(
            "Add a shard. Omitted values come from `template`. With `provision`, its provider creates its container at "
            "once; otherwise issue a token by `…/enrolment`. For operators."
        ),
        request=ShardCreateSerializer,
        responses={201: ShardCreatedSerializer},
    )
    def post(self, request: Request) -> Response:
        facts = read_body(request, ShardCreateSerializer)
        provision = facts.pop("provision")
        # The request is atomic: a shard that cannot be provisioned is not added.
        with transaction.atomic():
            shard = service.add(Shard(**_with_template(facts)), by=actor(request))
            operation: Operation | None = None
            if provision:
                operation = request_operation(shard, OperationKind.PROVISION, by=actor(request))
                operation.refresh_from_db()
        body = {
            "shard": ShardSerializer(get_shard(shard.name)).data,
            "operation": OperationSerializer(operation).data if operation else None,
        }
        return Response(body, status=status.HTTP_201_CREATED)


class ShardDetail(OperatorView):
    needs = {
        "GET": (permissions.VIEW_SHARD,),
        "PATCH": (permissions.CHANGE_SHARD,),
        "DELETE": (permissions.DELETE_SHARD,),
    }
    errors = {
        "GET": (UnknownShard,),
        "PATCH": (UnknownShard, UnknownProvider, BrokerUnreachable, BrokerRefused, BrokerTooOld),
        "DELETE": (UnknownShard, ShardInUse),
    }

    @extend_schema(operation_id="shards_read", description="One shard. For operators.", responses=ShardSerializer)
    def get(self, request: Request, name: str) -> Response:
        return Response(ShardSerializer(get_shard(name)).data)

    @extend_schema(
        operation_id="shards_change",
        description="Change the given fields. The response lists the consequences for a running shard. For operators.",
        request=ShardChangeSerializer,
        responses=ShardChangedSerializer,
    )
    def patch(self, request: Request, name: str) -> Response:
        shard = get_shard(name)
        for field, value in read_body(request, ShardChangeSerializer).items():
            setattr(shard, field, value)
        consequences = service.change(shard, by=actor(request))
        return Response({"shard": ShardSerializer(get_shard(name)).data, "consequences": consequences})

    @extend_schema(
        operation_id="shards_remove",
        description="Remove a shard that has no container. For operators.",
        responses={204: None},
    )
    def delete(self, request: Request, name: str) -> Response:
        service.remove(get_shard(name), by=actor(request))
        return Response(status=status.HTTP_204_NO_CONTENT)


def _filtered(request: Request) -> QuerySet[Shard]:
    rows = Shard.objects.select_related("pool", "template")
    if (state := _STATE.read(request.query_params)) is not None:
        rows = rows.filter(state=state)
    filters = {
        name: request.query_params[name].replace("\x00", "") for name in _FILTERS if name in request.query_params
    }
    return rows.filter(**{_FILTERS[name]: value for name, value in filters.items()})


def _with_template(facts: dict[str, Any]) -> dict[str, Any]:
    template: ShardTemplate | None = facts.get("template")
    return {"capabilities": [], **(service.facts_of_template(template) if template else {}), **facts}
