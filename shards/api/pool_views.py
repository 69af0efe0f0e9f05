"""``/api/v1/shard-templates``, ``/pools`` and ``/audit``: lists for operators."""

from __future__ import annotations

from django.db.models import Count, Q
from django.http import HttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request

from myctobot.api.pagination import PAGED, PAGES, Pages
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


class ShardTemplates(OperatorView):
    needs = {"GET": (permissions.VIEW_TEMPLATE,)}
    query = {"GET": PAGED}

    @extend_schema(
        operation_id="shard_templates_list",
        description=f"Templates of shards. {PAGES} For operators.",
        responses=ShardTemplatePageSerializer,
    )
    def get(self, request: Request) -> HttpResponse:
        return Pages().respond(ShardTemplate.objects.all(), request, ShardTemplateSerializer)


class Pools(OperatorView):
    needs = {"GET": (permissions.VIEW_POOL,)}
    query = {"GET": PAGED}

    @extend_schema(
        operation_id="pools_list",
        description=f"Pools with their scaling rules. {PAGES} For operators.",
        responses=PoolPageSerializer,
    )
    def get(self, request: Request) -> HttpResponse:
        shard_count = Count("shards", filter=~Q(shards__state=ShardState.GONE))
        rows = Pool.objects.select_related("template").annotate(shard_count=shard_count)
        return Pages().respond(rows, request, PoolSerializer)


class AuditLog(OperatorView):
    needs = {"GET": (permissions.VIEW_AUDIT,)}
    query = {
        "GET": (
            OpenApiParameter("subject", str, description="For example, shard/local."),
            OpenApiParameter("actor", str, description="For example, the name of a user."),
            *PAGED,
        )
    }

    @extend_schema(
        operation_id="audit_list",
        description=f"Entries of the audit log, newest first. {PAGES} For operators.",
        responses=AuditPageSerializer,
    )
    def get(self, request: Request) -> HttpResponse:
        filters = {
            name: request.query_params[name].replace("\x00", "")
            for name in ("subject", "actor")
            if name in request.query_params
        }
        rows = AuditEntry.objects.select_related("tenant").filter(**filters)
        return Pages().respond(rows, request, AuditEntrySerializer)
