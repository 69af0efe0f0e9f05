"""Configuration of the client, the server's URL and the API key, from the environment or a small file."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from myctobot.cli.errors import UsageError

DEFAULT_URL: Final = "http://127.0.0.1:8000"
_API: Final = "/api/v1"
_KNOWN: Final = ("api_key", "api_key_file", "url")
_READABLE_BY_OTHERS: Final = 0o044
_MAX_FILE_BYTES: Final = 64 * 1024


@dataclass(frozen=True)
class Config:
    """Configuration of the client.

    Attributes:
        url: URL of the server, without a slash at its end and without ``/api/v1``.
        url_source: origin of the URL, for error messages.
        key_source: origin of the key, for error messages.
    """

    url: str
    url_source: str
    api_key: str = field(repr=False)
    key_source: str


@dataclass(frozen=True)
class _File:
    """Configuration file; a missing file has no values."""

    path: Path
    values: Mapping[str, str] = field(repr=False)


def read_config(environ: Mapping[str, str], url: str | None = None) -> Config:
    """Return the URL and the key: the option precedes the environment, and the environment precedes the file.

    Args:
        environ: environment; an empty variable counts as missing.
        url: value of the option ``--url``.

    Raises:
        UsageError: a value is missing or invalid; the message names it.
    """
    file = _read_file(environ)
    url, url_source = _find_url(environ, url, file)
    api_key, key_source = _find_key(environ, file)
    return Config(_validate_url(url, url_source), url_source, _validate_key(api_key, key_source), key_source)


def config_path(environ: Mapping[str, str]) -> Path:
    """Return the path of the file: the one in MYCTOBOT_CONFIG, or the default."""
    if named := environ.get("MYCTOBOT_CONFIG"):
        return Path(_expand_user(named))
    base = environ.get("XDG_CONFIG_HOME", "")
    # The XDG specification requires that relative paths are ignored.
    folder = Path(base) if base.startswith("/") else Path(environ.get("HOME") or _expand_user("~")) / ".config"
    return folder / "myctobot" / "config.toml"


def _expand_user(path: str) -> str:
    return os.path.expanduser(path)  # noqa: PTH111  # Path.expanduser fails for a user without a home


def _read_file(environ: Mapping[str, str]) -> _File:
    path = config_path(environ)
    try:
        found = tomllib.loads(_read_text(path))
    except FileNotFoundError as error:
        if environ.get("MYCTOBOT_CONFIG"):
            raise UsageError(f"MYCTOBOT_CONFIG names {path}, which does not exist.") from error
        return _File(path, {})
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f'{path} is not valid TOML: {error}. Write lines such as: url = "https://…"') from error
    _check_entries(path, found)
    if "api_key" in found:
        _refuse_if_others_read(path)
    return _File(path, found)


def _read_text(path: Path) -> str:
    """Read a small text file.

    Raises:
        FileNotFoundError: the file does not exist.
        UsageError: the file exists but cannot be read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
        if len(content) > _MAX_FILE_BYTES:
            raise UsageError(f"{path} is larger than {_MAX_FILE_BYTES} bytes; it is probably the wrong file.")
        return content.decode()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(str(path)) from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not text in UTF-8.") from error


def _check_entries(path: Path, found: Mapping[str, Any]) -> None:
    if unknown := sorted(set(found) - set(_KNOWN)):
        raise UsageError(f"{path}: unknown settings: {', '.join(unknown)}. Use only {', '.join(_KNOWN)}.")
    for name, value in found.items():
        if not isinstance(value, str) or not value:
            raise UsageError(f"{path}: {name} must be text in quotes and not empty.")
    if "api_key" in found and "api_key_file" in found:
        raise UsageError(f"{path}: api_key and api_key_file are both set; keep one.")


def _refuse_if_others_read(path: Path) -> None:
    if os.name == "posix" and path.stat().st_mode & _READABLE_BY_OTHERS:
        raise UsageError(f"{path} contains an API key, but other users can read it. Run: chmod 600 {path}")


def _find_url(environ: Mapping[str, str], option: str | None, file: _File) -> tuple[str, str]:
    if option is not None:
        return option, "--url"
    if named := environ.get("MYCTOBOT_URL"):
        return named, "MYCTOBOT_URL"
    if "url" in file.values:
        return file.values["url"], f"url in {file.path}"
    return DEFAULT_URL, "the default; set another by --url, MYCTOBOT_URL or a configuration file"


def _validate_url(url: str, source: str) -> str:
    problem = _url_problem(url)
    if problem:
        raise UsageError(f"{source}: {problem}, such as https://myctobot.example.com")
    return url.rstrip("/").removesuffix(_API)


def _url_problem(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        httpx.URL(url)
    except (ValueError, httpx.InvalidURL):
        return "this is not a valid URL; write one"
    if not url.isprintable() or " " in url or parts.scheme not in ("http", "https") or not parts.hostname:
        return "it must be a URL that starts with https:// or http://"
    if parts.username is not None or parts.password is not None:
        return "it must not contain a user name or a password; set the key in MYCTOBOT_API_KEY. Write a URL"
    return "it must not have a query or a fragment; write the server's URL" if parts.query or parts.fragment else None


def _find_key(environ: Mapping[str, str], file: _File) -> tuple[str, str]:
    if environ.get("MYCTOBOT_API_KEY") and environ.get("MYCTOBOT_API_KEY_FILE"):
        raise UsageError("MYCTOBOT_API_KEY and MYCTOBOT_API_KEY_FILE are both set; unset one.")
    if key := environ.get("MYCTOBOT_API_KEY"):
        return key, "MYCTOBOT_API_KEY"
    if named := environ.get("MYCTOBOT_API_KEY_FILE"):
        return _read_key(Path(_expand_user(named)), "MYCTOBOT_API_KEY_FILE")
    if "api_key" in file.values:
        return file.values["api_key"], f"api_key in {file.path}"
    if "api_key_file" in file.values:
        return _read_key(file.path.parent / _expand_user(file.values["api_key_file"]), f"api_key_file in {file.path}")
    raise UsageError(
        "There is no API key. Set MYCTOBOT_API_KEY or MYCTOBOT_API_KEY_FILE, or write api_key or api_key_file into "
        f"{file.path}. The server's operator creates a key with: manage.py create_api_key"
    )


def _read_key(path: Path, source: str) -> tuple[str, str]:
    try:
        return _read_text(path).strip(), f"{source}: {path}"
    except FileNotFoundError as error:
        raise UsageError(f"{source} names {path}, which does not exist.") from error


def _validate_key(key: str, source: str) -> str:
    # The key becomes an HTTP header. The message must not contain it.
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise UsageError(f"{source}: this is not an API key; a key is one word that starts with mctb_.")
    return key
