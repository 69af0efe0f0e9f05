"""``/api/v1/shard-templates``, ``/pools`` and ``/audit``: lists for operators."""

from __future__ import annotations

from django.db.models import Count, Q
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from myctobot.api.pagination import Pages
from myctobot.tenants.models import AuditEntry
from shards import permissions
from shards.api.base import OperatorView
from shards.api.response_serializers import (
    AuditEntrySerializer,
    AuditPageSerializer,
    PoolPageSerializer,
    PoolSerializer,
    ShardTemplatePageSerializer,
    ShardTemplateSerializer,
)
from shards.models import Pool, ShardState, ShardTemplate

_PAGED = [OpenApiParameter("cursor", str), OpenApiParameter("limit", int)]


class ShardTemplates(OperatorView):
    needs = {"GET": (permissions.VIEW_TEMPLATE,)}

    @extend_schema(
        operation_id="shard_templates_list",
        description="Templates of shards. For operators.",
        parameters=_PAGED,
        responses=ShardTemplatePageSerializer,
    )
    def get(self, request: Request) -> Response:
        pages = Pages()
        page = pages.paginate_queryset(ShardTemplate.objects.all(), request, view=self)
        return pages.get_paginated_response(ShardTemplateSerializer(page, many=True).data)


class Pools(OperatorView):
    needs = {"GET": (permissions.VIEW_POOL,)}

    @extend_schema(
        operation_id="pools_list",
        description="Pools with their scaling rules. For operators.",
        parameters=_PAGED,
        responses=PoolPageSerializer,
    )
    def get(self, request: Request) -> Response:
        shard_count = Count("shards", filter=~Q(shards__state=ShardState.GONE))
        rows = Pool.objects.select_related("template").annotate(shard_count=shard_count)
        pages = Pages()
        page = pages.paginate_queryset(rows, request, view=self)
        return pages.get_paginated_response(PoolSerializer(page, many=True).data)


class AuditLog(OperatorView):
    needs = {"GET": (permissions.VIEW_AUDIT,)}

    @extend_schema(
        operation_id="audit_list",
        description="Entries of the audit log, newest first. For operators.",
        parameters=[
            OpenApiParameter("subject", str, description="For example, shard/local."),
            OpenApiParameter("actor", str),
            *_PAGED,
        ],
        responses=AuditPageSerializer,
    )
    def get(self, request: Request) -> Response:
        filters = {
            name: request.query_params[name].replace("\x00", "")
            for name in ("subject", "actor")
            if name in request.query_params
        }
        pages = Pages()
        rows = AuditEntry.objects.select_related("tenant").filter(**filters)
        page = pages.paginate_queryset(rows, request, view=self)
        return pages.get_paginated_response(AuditEntrySerializer(page, many=True).data)
