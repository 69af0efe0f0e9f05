"""View of ``GET /api/v1/shards/preview``: the shards that could run a job, for operators."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from jobs.dispatch.snapshot import load_snapshot
from jobs.queue.preview import Preview, preview
from myctobot.api.parameters import WholeNumber
from myctobot.contract.names import SLUG_PATTERN, is_slug
from myctobot.errors import InvalidRequest
from myctobot.lib.clock import database_now
from myctobot.tenants.models import Tenant
from shards import permissions
from shards.api.base import OperatorView

_MAX_CAPABILITIES: Final = 20
_TENANT: Final = OpenApiParameter(
    "tenant",
    {"type": "string", "format": "tenant", "pattern": f"^{SLUG_PATTERN}$"},
    required=True,
    description="Slug of the tenant.",
)
_CAPABILITIES: Final = OpenApiParameter(
    "capabilities",
    {"type": "string", "pattern": f"^{SLUG_PATTERN}(,{SLUG_PATTERN}){{0,{_MAX_CAPABILITIES - 1}}}$"},
    required=True,
    description="Slugs, such as git,filesystem.",
)
_LIMIT: Final = WholeNumber("limit", 1, 200, 100, description="Maximum number of shards in each list.")


class PreviewPlaceSerializer(serializers.Serializer[Any]):
    """A shard that may run the job, and the reasons for its rank."""

    number = serializers.IntegerField()
    shard = serializers.CharField()
    shard_class = serializers.CharField()
    queue = serializers.CharField()
    takes_now = serializers.BooleanField()
    reasons: serializers.ListField = serializers.ListField(child=serializers.CharField())


class PreviewExcludedSerializer(serializers.Serializer[Any]):
    """A shard that cannot run the job, and the reason."""

    shard = serializers.CharField()
    shard_class = serializers.CharField()
    why = serializers.CharField()


class PreviewSerializer(serializers.Serializer[Any]):
    """Decision of the router for such a job now; ``more`` shards were left out of the lists."""

    verdict = serializers.CharField()
    goes = serializers.BooleanField()
    places = PreviewPlaceSerializer(many=True)
    excluded = PreviewExcludedSerializer(many=True)
    more = serializers.IntegerField()


class ShardPreview(OperatorView):
    needs = {"GET": (permissions.PREVIEW,)}
    query = {"GET": (_TENANT, _CAPABILITIES, _LIMIT)}

    @extend_schema(
        operation_id="shards_preview",
        description="The shards that could run such a job, in the order of preference, with reasons. For operators.",
        responses=PreviewSerializer,
    )
    def get(self, request: Request) -> Response:
        tenant, capabilities = read_query(request.query_params)
        limit = _LIMIT.read(request.query_params)
        found = preview(tenant.pk, capabilities, load_snapshot(database_now()))
        return Response(PreviewSerializer(cut(found, limit)).data)


def read_query(query: Any) -> tuple[Tenant, list[str]]:
    """Read ``tenant`` and ``capabilities`` of a query.

    Raises:
        InvalidRequest: the tenant is unknown, or the capabilities are not slugs; the error names the field.
    """
    problems: dict[str, list[str]] = {}
    slug = str(query.get("tenant", "")).replace("\x00", "")
    tenant = Tenant.objects.filter(slug=slug).first()
    if tenant is None:
        problems["tenant"] = [f"There is no tenant “{slug[:60]}”." if slug else "Name a tenant by its slug."]
    names = [name for name in str(query.get("capabilities", "")).replace(",", " ").split() if name]
    wrong = [name for name in names if not is_slug(name)]
    if wrong:
        problems["capabilities"] = [
            f"“{wrong[0][:60]}” is not a capability, which is a lower-case word such as git or playwright."
        ]
    elif not 1 <= len(names) <= _MAX_CAPABILITIES:
        problems["capabilities"] = [f"Name 1 to {_MAX_CAPABILITIES} capabilities, such as git,filesystem."]
    if problems or tenant is None:
        raise InvalidRequest(fields=problems)
    return tenant, sorted(set(names))


def cut(found: Preview, limit: int) -> dict[str, Any]:
    """Return the preview as plain values, with at most ``limit`` entries in each list."""
    left = max(0, len(found.places) - limit) + max(0, len(found.excluded) - limit)
    places, excluded = found.places[:limit], found.excluded[:limit]
    return {
        "verdict": found.verdict,
        "goes": found.goes,
        "places": [asdict(place) for place in places],
        "excluded": [asdict(one) for one in excluded],
        "more": left,
    }
