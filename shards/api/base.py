"""Common parts of the operators' API views."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from myctobot.api.fields import StrictSerializer
from myctobot.api.parameters import ApiView
from myctobot.tenants.authentication import IsOperator
from myctobot.tenants.permissions import MissingPermission, ModelPermission, missing
from shards.lifecycle import suspensions
from shards.models import Shard


class HasPermissions(BasePermission):
    """Permission for operators who have the permissions that the view's method needs."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        assert isinstance(view, OperatorView)  # noqa: S101  # only these views have this permission class
        method = "GET" if request.method == "HEAD" else str(request.method)
        # OPTIONS only describes the address. Methods without a handler get a 405, also DISPATCH, which is an attribute.
        handler = method.lower()
        if method == "OPTIONS" or handler not in view.http_method_names or not hasattr(view, handler):
            return True
        needed = view.needs[method]
        lacking = missing(request.user, needed)
        if not lacking or (view.target_decides and len(lacking) < len(needed)):
            return True
        raise MissingPermission(lacking)


class OperatorView(ApiView):
    """View for operators only. A subclass with a method that names no permission fails when it is defined.

    Attributes:
        needs: permissions by method; the caller needs all of them.
        target_decides: one of them opens the view, which then checks the one of the target in the body.
    """

    permission_classes = [IsOperator, HasPermissions]
    needs: ClassVar[Mapping[str, tuple[ModelPermission, ...]]] = {}
    target_decides: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        handled = {name.upper() for name in cls.http_method_names if name != "options" and hasattr(cls, name)}
        if lacking := {method for method in handled if not cls.needs.get(method)}:
            raise TypeError(f"{cls.__name__}.needs names no permission for {', '.join(sorted(lacking))}")


def read_body(request: Request, serializer: type[StrictSerializer], **options: Any) -> dict[str, Any]:
    """Return the validated body of a request; an ``InvalidRequest`` names invalid fields."""
    body = serializer(data=request.data, **options)
    body.is_valid(raise_exception=True)
    return dict(body.validated_data)


def actor(request: Request) -> str:
    """Return the caller's name for the audit log."""
    return str(request.user.get_username())


def get_shard(name: str) -> Shard:
    """Return a shard with its pool and template, or raise ``UnknownShard``."""
    found = Shard.objects.select_related("pool", "template").filter(name=name.replace("\x00", "")).first()
    return found or suspensions.find_shard(name.replace("\x00", ""))
