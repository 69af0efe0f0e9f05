"""``/api/v1/shards``: add, look at, change and remove shards. For operators."""

from __future__ import annotations

from typing import Any, Final

from django.db import transaction
from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from myctobot.api.pagination import Pages
from myctobot.errors import InvalidRequest
from shards.api.base import OperatorView, checked, shard_named, who
from shards.api.request_serializers import ShardChangeSerializer, ShardCreateSerializer
from shards.api.response_serializers import (
    OperationSerializer,
    ShardChangedSerializer,
    ShardCreatedSerializer,
    ShardPageSerializer,
    ShardSerializer,
)
from shards.inventory import service as managing
from shards.models.shard import Shard, ShardState, ShardTemplate
from shards.operations.models import Operation, OperationKind
from shards.operations.requests import request as request_operation

_FILTERS: Final = {"state": "state", "pool": "pool__name", "provider": "provider", "class": "shard_class"}


class Shards(OperatorView):
    @extend_schema(
        operation_id="shards_list",
        description="Shards, the newest first. For operators.",
        parameters=[
            OpenApiParameter("state", str, enum=ShardState.values),
            *(OpenApiParameter(name, str) for name in ("pool", "provider", "class", "cursor")),
            OpenApiParameter("limit", int),
        ],
        responses=ShardPageSerializer,
    )
    def get(self, request: Request) -> Response:
        pages = Pages()
        page = pages.paginate_queryset(_filtered(request), request, view=self)
        return pages.get_paginated_response(ShardSerializer(page, many=True).data)

    @extend_schema(
        operation_id="shards_create",
        description=(
            "Add a shard. With `template` it takes over what is left out; with `provision` its provider makes its "
            "container at once, else make a token for it by `…/enrolment`. For operators."
        ),
        request=ShardCreateSerializer,
        responses={201: ShardCreatedSerializer},
    )
    def post(self, request: Request) -> Response:
        facts = checked(request, ShardCreateSerializer)
        provision = facts.pop("provision")
        # One that cannot be provisioned is not added either: the caller asks for both.
        with transaction.atomic():
            shard = managing.add(Shard(**_with_template(facts)), by=who(request))
            operation: Operation | None = None
            if provision:
                operation = request_operation(shard, OperationKind.PROVISION, by=who(request))
                operation.refresh_from_db()
        body = {
            "shard": ShardSerializer(shard_named(shard.name)).data,
            "operation": OperationSerializer(operation).data if operation else None,
        }
        return Response(body, status=status.HTTP_201_CREATED)


class ShardDetail(OperatorView):
    @extend_schema(operation_id="shards_read", description="One shard. For operators.", responses=ShardSerializer)
    def get(self, request: Request, name: str) -> Response:
        return Response(ShardSerializer(shard_named(name)).data)

    @extend_schema(
        operation_id="shards_change",
        description="Change what is named; the answer says what follows for a shard that lives. For operators.",
        request=ShardChangeSerializer,
        responses=ShardChangedSerializer,
    )
    def patch(self, request: Request, name: str) -> Response:
        shard = shard_named(name)
        for field, value in checked(request, ShardChangeSerializer).items():
            setattr(shard, field, value)
        consequences = managing.change(shard, by=who(request))
        return Response({"shard": ShardSerializer(shard_named(name)).data, "consequences": consequences})

    @extend_schema(
        operation_id="shards_remove",
        description="Take a shard off the record that has no container any more. For operators.",
        responses={204: None},
    )
    def delete(self, request: Request, name: str) -> Response:
        managing.remove(shard_named(name), by=who(request))
        return Response(status=status.HTTP_204_NO_CONTENT)


def _filtered(request: Request) -> QuerySet[Shard]:
    rows = Shard.objects.select_related("pool", "template")
    state = request.query_params.get("state")
    if state is not None and state not in ShardState.values:
        raise InvalidRequest(fields={"state": [f"Must be one of: {', '.join(ShardState.values)}."]})
    wanted = {name: request.query_params[name].replace("\x00", "") for name in _FILTERS if name in request.query_params}
    return rows.filter(**{_FILTERS[name]: value for name, value in wanted.items()})


def _with_template(facts: dict[str, Any]) -> dict[str, Any]:
    template: ShardTemplate | None = facts.get("template")
    return {"capabilities": [], **(managing.facts_of_template(template) if template else {}), **facts}
