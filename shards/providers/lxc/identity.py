"""Identity of a container before its first start: names, SSH host key and authorized keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shards.providers.lxc.layers import has_file

_HOST_KEY = "etc/ssh/ssh_host_ed25519_key"


def identity(name: str, authorized_keys: str, template: Path) -> Iterator[tuple[str, str, int]]:
    """Yield files as (path, text, mode); SSH files only if the template has an SSH server."""
    yield "etc/hostname", f"{name}\n", 0o644
    yield "etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {name}\n::1 localhost\n", 0o644
    if has_file(template, "etc/ssh/sshd_config"):
        private, public = key_pair()
        yield _HOST_KEY, private, 0o600
        yield f"{_HOST_KEY}.pub", f"{public}\n", 0o644
        if authorized_keys:
            yield "root/.ssh/authorized_keys", authorized_keys, 0o600


def key_pair() -> tuple[str, str]:
    """Return a new SSH key as the texts of its private and public files."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return private.decode(), public.decode()
