"""What can go wrong with a provider.

ProviderError              502, the provider's own words
├── ProviderUnreachable    502, try again
├── ProviderBusy           409, try again: locked, or another change is under way
├── OutOfRoom              409: storage, memory or addresses are used up
├── ProviderRefused        502: the credentials or their rights will not do
└── NotSupported           409: it cannot do that at all
"""

from __future__ import annotations

from myctobot.errors import MyctobotError


class ProviderError(MyctobotError):
    """The provider could not do what was asked."""

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
    """There is no room left: free some, or choose another storage or node."""

    code = "out_of_room"
    http_status = 409


class ProviderRefused(ProviderError):
    """The provider refused the credentials, or they lack a right."""

    code = "provider_refused"


class NotSupported(ProviderError):
    """This provider cannot do that."""

    code = "not_supported"
    http_status = 409
