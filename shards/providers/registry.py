"""Providers by name: the setting ``PROVIDERS`` maps each to a dotted path."""

from __future__ import annotations

from functools import cache

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from shards.providers.base import Provider
from shards.providers.errors import ProviderError


class UnknownProvider(ProviderError):
    """There is no provider of that name."""

    code = "unknown_provider"
    http_status = 400


def names() -> list[str]:
    """All that are configured, in alphabetical order."""
    return sorted(settings.PROVIDERS)


@cache
def provider(name: str) -> Provider:
    """Return the provider of that name, made once a process.

    Raises:
        UnknownProvider: the setting ``PROVIDERS`` has no such name; the error names those that it has.
        ProviderError: one of its own settings will not do; the error names it.
    """
    path = settings.PROVIDERS.get(name)
    if path is None:
        raise UnknownProvider(f"There is no provider '{name[:60]}'; there are: {', '.join(names())}.")
    try:
        made = import_string(path)()
    except ImproperlyConfigured as error:
        raise ProviderError(f"The provider {name} is not configured: {error}.") from error
    assert isinstance(made, Provider)  # noqa: S101  # a wrong dotted path in the settings
    return made
