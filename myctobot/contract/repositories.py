"""Checks of repository URLs and branch names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from myctobot.contract.limits import MAX_BRANCH_LENGTH, MAX_URL_LENGTH

_BRANCH_FORBIDDEN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//")


_SCP_LIKE = re.compile(r"[^/@:]+@[^/:]+:.*")


def branch_problem(name: str) -> str | None:
    """Return what is wrong with a branch name, or None.

    The rules are those of git-check-ref-format(1). A name that starts with ``refs/`` would name another ref.
    """
    if not name or len(name.encode(errors="replace")) > MAX_BRANCH_LENGTH:
        return f"must have 1 to {MAX_BRANCH_LENGTH} bytes in UTF-8"
    if name.startswith("-"):
        return "must not start with a dash"
    if _BRANCH_FORBIDDEN.search(name):
        return "must not contain spaces, control characters, '..', '@{', '//' or any of ~ ^ : ? * [ \\"
    if name.startswith("/") or name.endswith(("/", ".")) or name in ("@", "HEAD") or name.startswith("refs/"):
        return "must be a plain branch name, such as feature/PROJ-123"
    if any(part.startswith(".") or part.endswith(".lock") for part in name.split("/")):
        return "must have no part that starts with a dot or ends with '.lock'"
    return None if name.isprintable() else "must contain printable characters only"


def branch_pair_problem(branch: str, base: str) -> str | None:
    """Return why ``branch`` cannot exist together with its base branch, or None."""
    if branch == base:
        return f"must differ from the base branch '{base}': work is never pushed there"
    nested = branch.startswith(base + "/") or base.startswith(branch + "/")
    return f"cannot exist together with the base branch '{base}'; choose another name" if nested else None


def repo_url_problem(url: str, schemes: Iterable[str], file_roots: Sequence[str] = ()) -> str | None:
    """Return what is wrong with a repository URL, or None.

    Args:
        url: URL as the tenant wrote it.
        schemes: allowed schemes of remote repositories in lower case: ``https`` and ``ssh``.
        file_roots: absolute paths of the folders below which ``file`` is allowed; without one the scheme is refused.
    """
    allowed = sorted({scheme for scheme in schemes if scheme != "file"} | ({"file"} if file_roots else set()))
    example = "such as https://github.com/user/repo.git"
    if not url or len(url) > MAX_URL_LENGTH:
        return f"must have 1 to {MAX_URL_LENGTH} characters"
    if not url.isprintable() or any(char in url for char in " \\\"'`<>|"):
        return "must not contain spaces, quotes, backslashes or control characters"
    if url.startswith("-"):
        return f"must be a URL, {example}; it looks like a command line option"
    if "::" in url.split("/", 1)[0]:
        return f"must be a plain URL, {example}; git's remote helpers (name::address) are not allowed"
    if "://" not in url:
        hint = "; write ssh://user@host/path instead" if _SCP_LIKE.fullmatch(url) else ""
        return f"must be a URL with a scheme ({', '.join(allowed)}), {example}{hint}"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return f"is not a well-formed URL; write one {example}"
    if parts.scheme not in allowed:
        return f"has the scheme '{parts.scheme}'; allowed here: {', '.join(allowed)}"
    problem = _address_problem(parts.scheme, parts.hostname or "", parts.username, parts.password, parts)
    return problem or (file_problem(url, file_roots) if parts.scheme == "file" else None)


_DEFAULT_PORTS = {"https": 443, "ssh": 22}


def repository_name(url: str) -> str:
    """Return host and path of a well-formed repository URL, alike for ``https`` and ``ssh``.

    The name has no user, no default port and no ``.git`` at its end. A repository of this machine has its path alone.
    """
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    if parts.scheme == "file":
        return path
    port = f":{parts.port}" if parts.port not in (None, _DEFAULT_PORTS.get(parts.scheme)) else ""
    return f"{(parts.hostname or '').lower()}{port}{path.removesuffix('.git')}"


def repository_key(url: str) -> str:
    """Return one text for all spellings of a repository's URL, such as with another scheme, port, case or ``.git``.

    Different repositories may have the same key, so it must not grant a right. It only keeps jobs apart.
    """
    parts = urlsplit(url)
    path = "/".join(part for part in unquote(parts.path).casefold().split("/") if part not in ("", "."))
    host = (parts.hostname or "").rstrip(".")
    return f"{host}/{path.removesuffix('.git')}"


def file_path(url: str) -> str:
    """Return the path of a ``file://`` URL, decoded once, as its repository is opened.

    Raises:
        ValueError: the path is not absolute and plain: it has a part that is empty, ``.`` or ``..``, also encoded.
    """
    path = unquote(urlsplit(url).path, errors="strict")
    path = path[:-1] if path.endswith("/") else path
    if not path.startswith("/") or not path.isprintable() or not is_plain_path(path):
        raise ValueError(path)
    return path


def is_plain_path(path: str) -> bool:
    """Tell whether an absolute path below ``/`` has no part that is empty, ``.`` or ``..``."""
    return path.startswith("/") and not {"", ".", ".."} & set(path[1:].split("/"))


def is_below(path: str, root: str) -> bool:
    """Tell whether a plain path is inside a folder; the folder itself is not, nor is a name that only begins alike."""
    return path.startswith(root.rstrip("/") + "/")


def file_problem(url: str, roots: Iterable[str]) -> str | None:
    """Return why the path of a ``file://`` URL is refused, or None; no file is read."""
    try:
        path = file_path(url)
    except ValueError:
        return "must have a plain absolute path, without '.', '..', '//' or control characters, also encoded"
    if not any(is_below(path, root) for root in roots):
        return "is outside the folders that the operator opened for file:// repositories"
    return None


def _address_problem(scheme: str, host: str, user: str | None, password: str | None, parts: Any) -> str | None:
    if parts.query or parts.fragment:
        return "must not have a query or a fragment"
    if password is not None or (user is not None and scheme != "ssh"):
        return "must not contain a user name or password; give the token as repo_token"
    if ".." in parts.path.split("/") or not parts.path.strip("/"):
        return "must name a repository, without '..' in its path"
    if scheme == "file":
        return "must not have a host: write file:///absolute/path" if host else None
    if not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|[0-9A-Fa-f:.]+", host):
        return "must name the host by its DNS name or IP address"
    if user is not None and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", user):
        return "has a user name with characters that are not allowed"
    return None
