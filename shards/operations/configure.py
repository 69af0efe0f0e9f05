"""Configuration of a container over SSH, for providers that cannot pass an environment."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from django.conf import settings

from shards.providers.ansible import configure, ssh_trust
from shards.providers.base import Journal, Provider
from shards.providers.errors import ProviderError, ProviderUnreachable

_PLAYBOOK: Final = "shard.yml"
_TIMEOUT_S: Final = 900
_SSH_PORT: Final = 22
# A container has an address before its SSH server runs.
_SSH_WITHIN_S: Final = 60
_CONNECT_TIMEOUT_S: Final = 5
_POLL_EVERY_S: Final = 0.5


def configure_shard(maker: Provider, ref: str, environment: Mapping[str, str], journal: Journal) -> None:
    """Run the role ``shard`` on a container.

    Args:
        maker: the container's provider, which knows its address.
        environment: control URL, shard name, enrolment token and, perhaps, networks for links without TLS.

    Raises:
        ProviderUnreachable: the SSH server does not answer.
        ProviderError: there is no address or SSH key, nothing verifies the container's own key, or the role failed;
            with the output of the failed task.
    """
    address = maker.status(ref).address
    if address is None:
        raise ProviderError(
            f"The provider {maker.name} does not know the address of {ref}, so it cannot be configured."
        )
    if not settings.SHARD_SSH_KEY_FILE:
        raise ProviderError(
            f"The provider {maker.name} cannot pass an environment, so its containers are configured over SSH: "
            "set SHARD_SSH_KEY_FILE to the private key that they accept."
        )
    variables = {
        "shard_control_url": environment["MYCTOBOT_CONTROL_URL"],
        "shard_name": environment["MYCTOBOT_SHARD"],
        "shard_enrol_token": environment["MYCTOBOT_ENROL_TOKEN"],
        "shard_plain_networks": environment.get("MYCTOBOT_PLAIN_NETWORKS", "").replace(",", " ").split(),
        "shard_proxy_url": settings.SHARD_PROXY_URL,
    }
    host_key, trust_first_key = ssh_trust()
    journal.step("wait for the SSH server")
    await_ssh(address, _SSH_PORT, _SSH_WITHIN_S)
    configure(
        address, _SSH_PORT, Path(settings.SHARD_SSH_KEY_FILE), _PLAYBOOK, variables, journal, _TIMEOUT_S,
        host_key=host_key, trust_first_key=trust_first_key,
    )  # fmt: skip


def await_ssh(address: str, port: int, within_s: float) -> None:
    """Wait until an SSH server answers.

    Raises:
        ProviderUnreachable: none answered in time.
    """
    deadline = time.monotonic() + within_s
    while True:
        problem = "what answers is not an SSH server"
        try:
            with socket.create_connection((address, port), timeout=_CONNECT_TIMEOUT_S) as connection:
                if connection.recv(4) == b"SSH-":
                    return
        except OSError as error:
            problem = error.strerror or str(error)
        if time.monotonic() > deadline:
            raise ProviderUnreachable(f"{address} cannot be reached by SSH: {problem} (port {port}).")
        time.sleep(_POLL_EVERY_S)
