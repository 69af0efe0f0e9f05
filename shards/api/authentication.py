"""A shard proves who it is with its key: ``Authorization: Bearer mcts_…``."""

from __future__ import annotations

from typing import cast

from django.contrib.auth.models import AnonymousUser
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from myctobot.lib.crypto import digest
from myctobot.tenants.authentication import bearer_token
from shards.errors import UnknownShardKey
from shards.models import Shard

# With every batch of every runner: to compile this takes Django longer than PostgreSQL needs to answer it.
_BY_KEY = "SELECT * FROM shards_shard WHERE key_hash = %s"


class ShardAuthentication(BaseAuthentication):
    """Finds the shard of a key."""

    def authenticate(self, request: Request) -> tuple[AnonymousUser, Shard]:
        key = bearer_token(request)
        shard = next(iter(Shard.objects.raw(_BY_KEY, [digest(key)])), None) if key else None
        if shard is None:
            raise UnknownShardKey
        return AnonymousUser(), shard


class IsShard(BasePermission):
    """Lets shards in."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return isinstance(request.auth, Shard)


class ShardView(APIView):
    """A call of the shard API."""

    authentication_classes = [ShardAuthentication]
    permission_classes = [IsShard]
    # The shard API is between our own two halves; the contract is its documentation.
    schema = None

    def shard_of(self, request: Request) -> Shard:
        return cast(Shard, request.auth)
