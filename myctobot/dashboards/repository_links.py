"""Links to the web pages of a repository's branches and commits on well-known hosts. Pure.

The URL, the branch and the commit come from tenants and shards, so each part is checked and quoted. A link has the
scheme https, the repository's own host and no user. Without a complete match there is no link.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlsplit

from myctobot.contract.repositories import branch_problem

_HOST: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)+")
_PART: Final = re.compile(r"[\w.~+-]+")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True)
class _Style:
    """Paths of one kind of host below a repository; ``is_nested`` allows groups within groups."""

    branch: str
    commit: str
    is_nested: bool = False


_GITHUB: Final = _Style("tree", "commit")
_GITLAB: Final = _Style("-/tree", "-/commit", is_nested=True)
_BITBUCKET: Final = _Style("branch", "commits")
_FORGEJO: Final = _Style("src/branch", "commit")
_HOSTS: Final = {
    "github.com": _GITHUB,
    "gitlab.com": _GITLAB,
    "bitbucket.org": _BITBUCKET,
    "codeberg.org": _FORGEJO,
    "gitea.com": _FORGEJO,
}
# Installations of one's own usually have the product's name as the first part of their host name.
_FIRST_PARTS: Final = {"github": _GITHUB, "gitlab": _GITLAB, "forgejo": _FORGEJO, "gitea": _FORGEJO}


@dataclass(frozen=True)
class ResultLinks:
    """Addresses of a pushed branch and its last commit; an empty text is no link."""

    branch: str = ""
    commit: str = ""


def result_links(repo_url: str, branch: str, commit: str) -> ResultLinks:
    """Return the links for the result of a job.

    Args:
        repo_url: URL of the repository with the scheme https or ssh.
        branch: name of the pushed branch.
        commit: its full hash in lower case.
    """
    found = _repository_page(repo_url)
    if found is None:
        return ResultLinks()
    page, style = found
    return ResultLinks(
        branch=f"{page}/{style.branch}/{quote(branch)}" if branch_problem(branch) is None else "",
        commit=f"{page}/{style.commit}/{commit}" if _COMMIT.fullmatch(commit) else "",
    )


def _style_of(host: str) -> _Style | None:
    # A name such as github.com.evil.example imitates a known host.
    if any(host.startswith(f"{known}.") for known in _HOSTS):
        return None
    return _HOSTS.get(host) or _FIRST_PARTS.get(host.partition(".")[0])


def _repository_page(repo_url: str) -> tuple[str, _Style] | None:
    try:
        url = urlsplit(repo_url)
        host, port = url.hostname or "", url.port
    except ValueError:
        return None
    style = _style_of(host)
    parts = url.path.removesuffix("/").removesuffix(".git").split("/")[1:]
    is_complete = len(parts) == 2 or (style is not None and style.is_nested and len(parts) > 2)
    if style is None or url.scheme not in ("https", "ssh") or url.query or url.fragment or not is_complete:
        return None
    if not _HOST.fullmatch(host) or not all(_PART.fullmatch(part) and part.strip(".") for part in parts):
        return None
    # The port of ssh is not the port of the pages.
    suffix = f":{port}" if port and url.scheme == "https" else ""
    return f"https://{host}{suffix}/{'/'.join(map(quote, parts))}", style
