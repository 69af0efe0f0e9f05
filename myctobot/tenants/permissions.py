"""Permissions of operators: Django's model permissions, decided alike for the panel, the REST API and all pages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from myctobot.errors import NotAllowed

if TYPE_CHECKING:
    # The settings import this module, before models can be loaded.
    from django.contrib.auth.models import AnonymousUser, User

Verb = Literal["view", "add", "change", "delete"]


@dataclass(frozen=True)
class ModelPermission:
    """Permission of Django on the rows of a model, such as ``shards.change_shard``.

    Attributes:
        app: label of the model's app.
        model: name of the model, in lower case.
        verb: what the permission allows with the rows.
    """

    app: str
    model: str
    verb: Verb

    def __str__(self) -> str:
        return self._name(self.verb)

    def is_held_by(self, user: User | AnonymousUser) -> bool:
        """Check that an active staff user has the permission; superusers have all.

        As on the panel's pages, users who may change rows may also view them.
        """
        if not (user.is_active and user.is_staff):
            return False
        return user.has_perm(str(self)) or (self.verb == "view" and user.has_perm(self._name("change")))

    def _name(self, verb: Verb) -> str:
        return f"{self.app}.{verb}_{self.model}"


class MissingPermission(NotAllowed):
    """Your account lacks a permission."""

    code = "missing_permission"

    def __init__(self, missing: Iterable[ModelPermission]) -> None:
        names = [str(permission) for permission in missing]
        super().__init__(
            f"Your account lacks {', '.join(names)}. Ask a superuser for the permission; the panel grants it.",
            permissions=names,
        )


def missing(user: User | AnonymousUser, needed: Iterable[ModelPermission]) -> list[ModelPermission]:
    """Return the needed permissions that a user does not have."""
    return [permission for permission in needed if not permission.is_held_by(user)]


def require(user: User | AnonymousUser, *needed: ModelPermission) -> None:
    """Check that a user has all the permissions.

    Raises:
        MissingPermission: names those that the user lacks.
    """
    if lacking := missing(user, needed):
        raise MissingPermission(lacking)
