"""What every call of an operator goes through."""

from __future__ import annotations

from typing import Any

from rest_framework.request import Request
from rest_framework.views import APIView

from myctobot.api.fields import StrictSerializer
from myctobot.tenants.authentication import IsOperator
from shards.lifecycle.states import suspensions as closing
from shards.models.shard import Shard


class OperatorView(APIView):
    """A call of an operator."""

    permission_classes = [IsOperator]


def checked(request: Request, serializer: type[StrictSerializer], **options: Any) -> dict[str, Any]:
    """The body of a call, read by a serializer; what is wrong is an ``InvalidRequest`` that names the field."""
    body = serializer(data=request.data, **options)
    body.is_valid(raise_exception=True)
    return dict(body.validated_data)


def who(request: Request) -> str:
    """Who calls, for the audit log."""
    return str(request.user.get_username())


def shard_named(name: str) -> Shard:
    """Find a shard with its pool and template, or raise ``UnknownShard``."""
    found = Shard.objects.select_related("pool", "template").filter(name=name.replace("\x00", "")).first()
    return found or closing.find_shard(name.replace("\x00", ""))
