"""The one reader of the environment.

Every variable that the control plane understands is read here, by type, so that nonsense is refused
at start with the variable's name. A secret may come from a file: ``SECRET_KEY_FILE=/run/secrets/key``.
While the embedded stack runs it leaves its variables in ``<home>/env``, so that other commands of the
same checkout find it.
"""

from __future__ import annotations

import os
from pathlib import Path

import environ
from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent
HOME = Path(os.environ.get("MYCTOBOT_HOME") or BASE_DIR / ".myctobot").resolve()

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


def url(name: str, default: str) -> str:
    """Read an http(s) base URL, without its last slash.

    Raises:
        ImproperlyConfigured: the value is no such URL.
    """
    value: str = env.str(name, default=default)
    if not value.startswith(("http://", "https://")):
        raise ImproperlyConfigured(f"{name} is {value!r}; it must start with http:// or https://")
    return value.rstrip("/")
