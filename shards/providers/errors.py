"""Errors of providers.

ProviderError              502, with the provider's message
├── ProviderUnreachable    502, try again
├── ProviderBusy           409, try again: locked, or another change is in progress
├── OutOfRoom              409: storage, memory or addresses are used up
├── ProviderRefused        502: wrong credentials, or a missing right
└── NotSupported           409: the provider lacks the feature
"""

from __future__ import annotations

from myctobot.errors import MyctobotError


class ProviderError(MyctobotError):
    """The provider failed."""

    code = "provider_failed"
    http_status = 502


class ProviderUnreachable(ProviderError):
    """The provider does not answer."""

    code = "provider_unreachable"
    retryable = True


class ProviderBusy(ProviderError):
    """The container is locked by another change; try again later."""

    code = "provider_busy"
    http_status = 409
    retryable = True


class OutOfRoom(ProviderError):
    """There is no room left. Free some, or choose another storage or node."""

    code = "out_of_room"
    http_status = 409


class ProviderRefused(ProviderError):
    """The provider refused the credentials, or a right is missing."""

    code = "provider_refused"


class NotSupported(ProviderError):
    """This provider does not support the action."""

    code = "not_supported"
    http_status = 409
