"""What can go wrong with Proxmox beyond what any provider knows.

ProviderError
├── TaskFailed             a task ended badly; its last log lines are in the message
├── NotTrusted             the server's certificate is not the one that was to be expected
├── VmidTaken              another took the number first
└── NoSuchContainer        there is no container of that number
ProviderUnreachable
└── OutcomeUnknown         the request was sent and no answer came: it may have been done
"""

from __future__ import annotations

from shards.providers.errors import ProviderError, ProviderUnreachable


class TaskFailed(ProviderError):
    """A task of Proxmox failed."""


class NotTrusted(ProviderError):
    """The certificate of PROXMOX_URL is not trusted: set PROXMOX_CA_FILE or PROXMOX_FINGERPRINT."""

    code = "provider_not_trusted"


class VmidTaken(ProviderError):
    """Another container or VM has that number."""


class NoSuchContainer(ProviderError):
    """There is no container of that number."""


class OutcomeUnknown(ProviderUnreachable):
    """Proxmox did not answer; what was asked for may have been done or not."""
