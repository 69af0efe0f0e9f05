"""Errors of Proxmox in addition to those of all providers.

ProviderError
├── TaskFailed             a task failed; the message has its last log lines
├── NotTrusted             the server's certificate is not trusted
├── VmidTaken              another container or VM has the number
└── NoSuchContainer        there is no container with the number
ProviderUnreachable
└── OutcomeUnknown         a request was sent without an answer, so it may have been executed
"""

from __future__ import annotations

from shards.providers.errors import ProviderError, ProviderUnreachable


class TaskFailed(ProviderError):
    """A task of Proxmox failed."""


class NotTrusted(ProviderError):
    """The certificate of PROXMOX_URL is not trusted. Set PROXMOX_CA_FILE or PROXMOX_FINGERPRINT."""

    code = "provider_not_trusted"


class VmidTaken(ProviderError):
    """Another container or VM has this number."""


class NoSuchContainer(ProviderError):
    """There is no container with this number."""


class OutcomeUnknown(ProviderUnreachable):
    """Proxmox did not answer, so the request may have been executed."""
