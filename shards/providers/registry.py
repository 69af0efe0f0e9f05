"""Registry of providers, which the setting ``PROVIDERS`` maps from names to dotted paths."""

from __future__ import annotations

from functools import cache

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from shards.providers.base import Provider
from shards.providers.errors import ProviderError


class UnknownProvider(ProviderError):
    """There is no provider with this name."""

    code = "unknown_provider"
    http_status = 400


class ProviderNotConfigured(ProviderError):
    """A setting of the provider is missing or not valid."""

    code = "provider_not_configured"
    http_status = 409


def names() -> list[str]:
    """Return the names of the configured providers in alphabetical order."""
    return sorted(settings.PROVIDERS)


@cache
def provider(name: str) -> Provider:
    """Return the provider with this name; each process creates it once.

    Raises:
        UnknownProvider: the setting ``PROVIDERS`` has no such name; the error lists the known names.
        ProviderNotConfigured: one of its settings is missing or not valid; the error names it.
    """
    path = settings.PROVIDERS.get(name)
    if path is None:
        raise UnknownProvider(f"There is no provider '{name[:60]}'; there are: {', '.join(names())}.")
    try:
        created = import_string(path)()
    except ImproperlyConfigured as error:
        raise ProviderNotConfigured(f"The provider {name} is not configured: {error}.") from error
    assert isinstance(created, Provider)  # noqa: S101  # a wrong dotted path in the settings
    return created
