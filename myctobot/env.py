"""The one reader of the environment.

Every variable that the control plane understands is read here, by type, so that nonsense is refused
at start with the variable's name. A secret may come from a file: ``SECRET_KEY_FILE=/run/secrets/key``.
While the embedded stack runs it leaves its variables in ``<home>/env``, so that other commands of the
same checkout find it.
"""

from __future__ import annotations

import base64
import os
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

import environ
from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent
HOME = Path(os.environ.get("MYCTOBOT_HOME") or BASE_DIR / ".myctobot").resolve()

Network = IPv4Network | IPv6Network

env = environ.FileAwareEnv()

if "DATABASE_URL" not in os.environ and (HOME / "env").is_file():
    environ.Env.read_env(HOME / "env")


def choice(name: str, allowed: tuple[str, ...], default: str) -> str:
    """Read a variable that takes one of a few words.

    Raises:
        ImproperlyConfigured: the value is another one.
    """
    value: str = env.str(name, default=default)
    if value not in allowed:
        raise ImproperlyConfigured(f"{name} is {value!r}; it must be one of: {', '.join(allowed)}")
    return value


def whole_number(name: str, default: int, *, least: int) -> int:
    """Read a whole number of at least ``least``.

    Raises:
        ImproperlyConfigured: the value is something else.
    """
    text: str = env.str(name, default=str(default)).strip()
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise ImproperlyConfigured(f"{name} is {text!r}; it must be a whole number of at least {least}")
    return int(text)


def first_address(network: str) -> str:
    """The first address of an IPv4 network, which is the bridge's own; empty when that is no network."""
    try:
        return str(next(IPv4Network(network).hosts()))
    except (ValueError, StopIteration):
        # Whoever uses the network says what is wrong with it, by the variable's name.
        return ""


def url(name: str, default: str) -> str:
    """Read an http(s) base URL, without its last slash.

    Raises:
        ImproperlyConfigured: the value is no such URL.
    """
    value: str = env.str(name, default=default)
    if not value.startswith(("http://", "https://")):
        raise ImproperlyConfigured(f"{name} is {value!r}; it must start with http:// or https://")
    return value.rstrip("/")


def networks(name: str) -> list[Network]:
    """Read a list of networks and addresses, such as ``10.0.0.0/8,fd00::1``.

    Raises:
        ImproperlyConfigured: something is neither.
    """
    found: list[Network] = []
    for text in env.list(name, default=[]):
        try:
            found.append(ip_network(text.strip()))
        except ValueError as error:
            raise ImproperlyConfigured(f"{name}: {error}; write networks such as 10.0.0.0/8, by commas") from error
    return found


def token(name: str, *, least: int = 16) -> str:
    """Read a secret that somebody chose, or "" where there is none.

    Raises:
        ImproperlyConfigured: it is so short that it can be guessed.
    """
    value: str = env.str(name, default="").strip()
    if value and len(value) < least:
        raise ImproperlyConfigured(f"{name} has {len(value)} characters; it must have at least {least}")
    return value


def endpoint(name: str) -> str:
    """Read the http(s) URL of one endpoint, as it is; empty when it is unset.

    Raises:
        ImproperlyConfigured: the value is no such URL.
    """
    value: str = env.str(name, default="")
    if value and not value.startswith(("http://", "https://")):
        # It may hold a token, so it is not shown.
        raise ImproperlyConfigured(f"{name} must start with http:// or https://")
    return value


def webhook_secret(name: str) -> str:
    """Read a secret of the Standard Webhooks rules; empty when it is unset.

    Raises:
        ImproperlyConfigured: the value is none.
    """
    value: str = env.str(name, default="")
    try:
        base64.b64decode(value.removeprefix("whsec_"), validate=True)
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} is not base64, with or without whsec_ before it") from error
    return value
