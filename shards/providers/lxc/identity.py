"""What makes a container itself before it ever runs: its names, its SSH host key, and who may come in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_HOST_KEY = "etc/ssh/ssh_host_ed25519_key"


def identity(name: str, authorized_keys: str, template: Path) -> Iterator[tuple[str, str, int]]:
    """Files as (path, text, mode); the SSH ones only where the template has a server."""
    yield "etc/hostname", f"{name}\n", 0o644
    yield "etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {name}\n::1 localhost\n", 0o644
    if (template / "rootfs/etc/ssh/sshd_config").is_file():
        private, public = key_pair()
        yield _HOST_KEY, private, 0o600
        yield f"{_HOST_KEY}.pub", f"{public}\n", 0o644
        if authorized_keys:
            yield "root/.ssh/authorized_keys", authorized_keys, 0o600


def key_pair() -> tuple[str, str]:
    """A private SSH key and its public half, as their files hold them."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return private.decode(), public.decode()
