"""Rotation of ``SECRETS_KEYS``: seal every value with the newest key, so that an old key can be removed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.apps import apps
from django.db import models

from myctobot.lib.crypto import CannotUnseal
from myctobot.tenants.models import CallbackSecret
from myctobot.tenants.secrets import callback_sealer, sealer

# Every model keeps its sealed values in a column of this name, also the models of apps that this one may not import.
SEALED_COLUMN = "sealed"


@dataclass(frozen=True)
class Rotated:
    """Result of a rotation; ``lost`` names the rows that no current key opens."""

    done: int
    lost: tuple[str, ...]


def sealed_models() -> list[type[models.Model]]:
    """Return the models that hold sealed values."""
    return [model for model in apps.get_models() if sealed_field(model)]


def sealed_field(model: type[models.Model]) -> str:
    """Return the name of the field that holds the sealed values of a model, or an empty string."""
    return next((field.name for field in model._meta.concrete_fields if field.column == SEALED_COLUMN), "")


def rotate(found: Iterable[type[models.Model]]) -> Rotated:
    """Rotate the sealed rows of some models, each in its own transaction, so that other writers wait briefly."""
    done, lost = 0, []
    for model in found:
        name, keys = sealed_field(model), callback_sealer() if model is CallbackSecret else sealer()
        rows = model._default_manager.filter(**{f"{name}__isnull": False}).order_by("pk")
        for pk, sealed in rows.values_list("pk", name).iterator(chunk_size=500):
            try:
                renewed = keys.rotate(sealed)
            except CannotUnseal:
                lost.append(f"{model._meta.label} {pk}")
                continue
            # Compare and set: a row that changed since it was read keeps its new value.
            done += model._default_manager.filter(pk=pk, **{name: sealed}).update(**{name: renewed})
    return Rotated(done, tuple(lost))
