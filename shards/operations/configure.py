"""Configures a bare container over SSH, where its provider cannot hand it an environment."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from django.conf import settings

from shards.providers.ansible import configure
from shards.providers.base import Journal, Provider
from shards.providers.errors import ProviderError, ProviderUnreachable

_PLAYBOOK: Final = "shard.yml"
_TIMEOUT_S: Final = 900
_SSH_PORT: Final = 22
# A container has an address before its services run.
_SSH_WITHIN_S: Final = 60
_TRY_S: Final = 5
_LOOK_EVERY_S: Final = 0.5


def configure_shard(maker: Provider, ref: str, environment: Mapping[str, str], journal: Journal) -> None:
    """Run the role ``shard`` on a container.

    Args:
        maker: who has the container; knows its address.
        environment: what the container could not be given: where to enrol, as whom, and the token.

    Raises:
        ProviderUnreachable: its SSH server does not answer.
        ProviderError: it has no address, there is no key, or the role failed; with the task's own words.
    """
    address = maker.status(ref).address
    if address is None:
        raise ProviderError(f"The provider {maker.name} does not know the address of {ref}, so nothing configures it.")
    if not settings.SHARD_SSH_KEY_FILE:
        raise ProviderError(
            f"The provider {maker.name} hands no environment to containers, so they are configured over SSH: "
            "set SHARD_SSH_KEY_FILE to the private key whose public half they accept."
        )
    variables = {
        "shard_control_url": environment["MYCTOBOT_CONTROL_URL"],
        "shard_name": environment["MYCTOBOT_SHARD"],
        "shard_enrol_token": environment["MYCTOBOT_ENROL_TOKEN"],
        "shard_proxy_url": settings.SHARD_PROXY_URL,
    }
    journal.step("wait for its SSH server")
    await_ssh(address, _SSH_PORT, _SSH_WITHIN_S)
    configure(address, _SSH_PORT, Path(settings.SHARD_SSH_KEY_FILE), _PLAYBOOK, variables, journal, _TIMEOUT_S)


def await_ssh(address: str, port: int, within_s: float) -> None:
    """Return when an SSH server answers there.

    Raises:
        ProviderUnreachable: none did in time.
    """
    deadline = time.monotonic() + within_s
    while True:
        why = "nobody answers as an SSH server does"
        try:
            with socket.create_connection((address, port), timeout=_TRY_S) as way:
                if way.recv(4) == b"SSH-":
                    return
        except OSError as error:
            why = error.strerror or str(error)
        if time.monotonic() > deadline:
            raise ProviderUnreachable(f"There is no way into {address} by SSH: {why} (port {port}).")
        time.sleep(_LOOK_EVERY_S)
