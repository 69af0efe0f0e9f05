"""Configures a bare container over SSH, where its provider cannot hand it an environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from django.conf import settings

from shards.providers.ansible import configure
from shards.providers.base import Journal, Provider
from shards.providers.errors import ProviderError

_PLAYBOOK: Final = "shard.yml"
_TIMEOUT_S: Final = 900
_SSH_PORT: Final = 22


def configure_shard(maker: Provider, ref: str, environment: Mapping[str, str], journal: Journal) -> None:
    """Run the role ``shard`` on a container.

    Args:
        maker: who has the container; knows its address.
        environment: what the container could not be given: where to enrol, as whom, and the token.

    Raises:
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
    configure(address, _SSH_PORT, Path(settings.SHARD_SSH_KEY_FILE), _PLAYBOOK, variables, journal, _TIMEOUT_S)
