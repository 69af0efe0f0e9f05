"""Readers of environment variables, by type.

The settings read every variable with these functions, so that an invalid value is refused at start with the variable's
name. A secret may come from a file: ``SECRET_KEY_FILE=/run/secrets/key``. The embedded stack writes its variables to
``<home>/env`` while it runs, so that other commands of the same checkout find it.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

import environ
from django.core.exceptions import ImproperlyConfigured

from myctobot.contract.direct_addresses import MAX_DIRECT_ADDRESSES, parse_direct_address
from myctobot.contract.proxies import is_proxy_url
from myctobot.contract.repositories import is_plain_path
from myctobot.lib.value_files import read_value_file

BASE_DIR = Path(__file__).resolve().parent.parent
HOME = Path(os.environ.get("MYCTOBOT_HOME") or BASE_DIR / ".myctobot").resolve()

Network = IPv4Network | IPv6Network


class _Variables(Mapping[str, str]):
    """Variables of this process, whose values may be in files."""

    def __getitem__(self, name: str) -> str:
        if path := os.environ.get(f"{name}_FILE"):
            try:
                return read_value_file(f"{name}_FILE", Path(path))
            except ValueError as error:
                raise ImproperlyConfigured(str(error)) from error
        return os.environ[name]

    def __iter__(self) -> Iterator[str]:
        return iter({name.removesuffix("_FILE") for name in os.environ} | {*os.environ})

    def __len__(self) -> int:
        return sum(1 for _ in self)


env = environ.Env()
env.ENVIRON = _Variables()

# Processes of the stack itself (EMBEDDED) have only the variables that they need.
if not {"DATABASE_URL", "EMBEDDED"} & os.environ.keys() and (HOME / "env").is_file():
    environ.Env.read_env(HOME / "env")


def choice(name: str, allowed: tuple[str, ...], default: str) -> str:
    """Read a variable whose value is one of a few words.

    Raises:
        ImproperlyConfigured: the value is not one of them.
    """
    value: str = env.str(name, default=default)
    if value not in allowed:
        raise ImproperlyConfigured(f"{name} is {value!r}; it must be one of: {', '.join(allowed)}")
    return value


def whole_number(name: str, default: int, *, minimum: int) -> int:
    """Read a whole number of at least ``minimum``.

    Raises:
        ImproperlyConfigured: the value is not such a number.
    """
    text: str = env.str(name, default=str(default)).strip()
    if not text.isascii() or not text.isdigit() or int(text) < minimum:
        raise ImproperlyConfigured(f"{name} is {text!r}; it must be a whole number of at least {minimum}")
    return int(text)


def first_address(network: str) -> str:
    """Return the first address of an IPv4 network, which is the bridge's; empty if the text is not a network."""
    try:
        return str(next(IPv4Network(network).hosts()))
    except (ValueError, StopIteration):
        # The code that uses the network refuses it by the variable's name.
        return ""


def url(name: str, default: str) -> str:
    """Read an http(s) base URL, and remove its last slash.

    Raises:
        ImproperlyConfigured: the value is not such a URL.
    """
    value: str = env.str(name, default=default)
    if not value.startswith(("http://", "https://")):
        raise ImproperlyConfigured(f"{name} is {value!r}; it must start with http:// or https://")
    return value.rstrip("/")


def networks(name: str) -> list[Network]:
    """Read a list of networks and addresses, such as ``10.0.0.0/8,fd00::1``.

    Raises:
        ImproperlyConfigured: a part is neither.
    """
    found: list[Network] = []
    for text in env.list(name, default=[]):
        try:
            found.append(ip_network(text.strip()))
        except ValueError as error:
            raise ImproperlyConfigured(
                f"{name}: {error}; write networks such as 10.0.0.0/8, separated by commas"
            ) from error
    return found


def direct_addresses(name: str) -> list[str]:
    """Read a list of addresses with ports, such as ``10.0.0.5:5432,[fd00::2]:443``.

    Raises:
        ImproperlyConfigured: a part is not such an address, or there are too many.
    """
    try:
        found = sorted({str(parse_direct_address(text.strip())) for text in env.list(name, default=[])})
    except ValueError as error:
        raise ImproperlyConfigured(f"{name}: {error}; separate addresses by commas") from error
    if len(found) > MAX_DIRECT_ADDRESSES:
        raise ImproperlyConfigured(f"{name} has {len(found)} addresses; give at most {MAX_DIRECT_ADDRESSES}")
    return found


def proxy_url(name: str) -> str:
    """Read the address of an HTTP proxy, such as ``http://10.0.0.1:3128``; empty means none.

    Raises:
        ImproperlyConfigured: it is something else, or it contains a password, which agents could read.
    """
    value: str = env.str(name, default="").rstrip("/")
    if value and not is_proxy_url(value):
        raise ImproperlyConfigured(f"{name} must be only a proxy's address, such as http://10.0.0.1:3128")
    return value


def folders(name: str) -> list[str]:
    """Read a list of absolute paths of folders, such as ``/srv/repos,/srv/more``. A folder may be missing yet.

    Raises:
        ImproperlyConfigured: a part is no plain absolute path, is ``/``, or leads through a symbolic link.
    """
    found: list[str] = []
    for text in env.list(name, default=[]):
        path = text.strip().rstrip("/")
        if not is_plain_path(path):
            raise ImproperlyConfigured(
                f"{name} contains {text!r}; write absolute paths of folders below /, separated by commas"
            )
        if (real := os.path.realpath(path)) != path:
            raise ImproperlyConfigured(f"{name}: {path} leads through a symbolic link; write {real}")
        found.append(path)
    return found


def schemes(name: str, file_roots: list[str]) -> list[str]:
    """Read the schemes of repository URLs.

    Raises:
        ImproperlyConfigured: ``file`` is one of them, but no folder is open for it.
    """
    found: list[str] = env.list(name, default=["https", "ssh"])
    if "file" in found and not file_roots:
        raise ImproperlyConfigured(f"{name} contains file; set REPO_FILE_ROOTS to the folders of these repositories")
    return found


def contacts(name: str) -> list[str]:
    """Read a list of addresses for reports, such as ``mailto:security@example.org``.

    Raises:
        ImproperlyConfigured: a part has another scheme than mailto, https and tel, or a space or control character.
    """
    found = [text.strip() for text in env.list(name, default=[])]
    for text in found:
        if not re.fullmatch(r"(?:mailto:|https://|tel:)[!-~]+", text):
            raise ImproperlyConfigured(f"{name} contains {text!r}; write addresses such as mailto:security@example.org")
    return found


def expiry(name: str, *, needed_by: str = "") -> datetime | None:
    """Read a date, such as ``2027-06-30``, as its first moment in UTC; None if it is unset.

    Args:
        needed_by: variable that needs this one.

    Raises:
        ImproperlyConfigured: the value is no date, or it is unset and needed.
    """
    text: str = env.str(name, default="").strip()
    if not text and not needed_by:
        return None
    try:
        return datetime.combine(date.fromisoformat(text), time.min, tzinfo=UTC)
    except ValueError as error:
        reason = f"; {needed_by} needs it" if needed_by and not text else ""
        raise ImproperlyConfigured(f"{name} is {text!r}{reason}; write a date such as 2027-06-30") from error


def token(name: str, *, minimum: int = 16) -> str:
    """Read a secret that a person chose; empty if it is unset.

    Raises:
        ImproperlyConfigured: the secret has fewer than ``minimum`` characters, so it can be guessed.
    """
    value: str = env.str(name, default="").strip()
    if value and len(value) < minimum:
        raise ImproperlyConfigured(f"{name} has {len(value)} characters; it must have at least {minimum}")
    return value


def endpoint(name: str) -> str:
    """Read the http(s) URL of one endpoint, unchanged; empty if it is unset.

    Raises:
        ImproperlyConfigured: the value is not such a URL.
    """
    value: str = env.str(name, default="")
    if value and not value.startswith(("http://", "https://")):
        # The URL may contain a token, so the error does not show it.
        raise ImproperlyConfigured(f"{name} must start with http:// or https://")
    return value


def webhook_secret(name: str) -> str:
    """Read a secret in the format of Standard Webhooks; empty if it is unset.

    Raises:
        ImproperlyConfigured: the value is not base64.
    """
    value: str = env.str(name, default="")
    try:
        base64.b64decode(value.removeprefix("whsec_"), validate=True)
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} is not base64, with or without whsec_ before it") from error
    return value
