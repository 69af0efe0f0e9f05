"""Seals everything anew with the newest of ``SECRETS_KEYS``, so that an old key can go."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.apps import apps
from django.db import models

from myctobot.lib.crypto import CannotUnseal
from myctobot.tenants.secrets import sealer

# The name of the column in which every model keeps what is sealed: this app's, and those of apps that it
# may not import.
SEALED = "sealed"


@dataclass(frozen=True)
class Rotated:
    """What a rotation did; ``lost`` names rows that no present key opens."""

    done: int
    lost: tuple[str, ...]


def sealed_models() -> list[type[models.Model]]:
    return [model for model in apps.get_models() if any(field.name == SEALED for field in model._meta.fields)]


def rotate(found: Iterable[type[models.Model]]) -> Rotated:
    """Rotate the sealed rows of some models, one by one, so that nobody waits for a long transaction."""
    done, lost = 0, []
    for model in found:
        rows = model._default_manager.filter(**{f"{SEALED}__isnull": False}).order_by("pk")
        for pk, sealed in rows.values_list("pk", SEALED).iterator(chunk_size=500):
            try:
                renewed = sealer().rotate(sealed)
            except CannotUnseal:
                lost.append(f"{model._meta.label} {pk}")
                continue
            # Compare-and-set: a row that was stored anew or wiped meanwhile keeps what it has now.
            done += model._default_manager.filter(pk=pk, **{SEALED: sealed}).update(**{SEALED: renewed})
    return Rotated(done, tuple(lost))
