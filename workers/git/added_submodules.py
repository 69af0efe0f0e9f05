"""Submodules that an agent added. Only a link to a commit that others can fetch is of use to them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from workers.git.checkout import InnerRepository
from workers.git.record import CheckoutRecord, text_of
from workers.git.submodules import SCP_LIKE, parse_modules

# Reads the agent's own file, because the agent may not have committed it.
DECLARED: Final = r"git config -z -f .gitmodules --get-regexp '^submodule\..*\.(path|url)$' || :"
# Print path, commit, address of the origin, and a branch of the origin that has the commit.
ORIGINS: Final = r"""
unset GIT_DIR GIT_WORK_TREE GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_INDEX_FILE
for path; do
  head=$(git --git-dir="./$path/.git" rev-parse --verify --quiet 'HEAD^{commit}') || continue
  printf '%s\0%s\0%s\0%s\0' "$path" "$head" "$(git --git-dir="./$path/.git" config remote.origin.url)" \
    "$(git --git-dir="./$path/.git" for-each-ref --count=1 --format=x --contains "$head" refs/remotes/origin/)"
done
"""
_REMOTE: Final = re.compile(r"(https?|ssh|git)://[^/]+/.", re.IGNORECASE)


def is_remote(url: str) -> bool:
    """Tell whether an address is one of a server, unlike a path or ``file://``."""
    return bool(_REMOTE.match(url) or ("://" not in url and "::" not in url and SCP_LIKE.fullmatch(url)))


async def find_links(record: CheckoutRecord, inner: Sequence[InnerRepository]) -> dict[str, str]:
    """Return the commits of the submodules that the agent added and that others can fetch, by their paths.

    Args:
        inner: repositories inside the workspace.
    """
    if not inner:
        return {}
    urls = {path: url for _, path, url in parse_modules(text_of(await record.run(DECLARED)))}
    paths = [one.path for one in inner if one.path in urls and one.path not in record.gitlinks]
    if not paths:
        return {}
    fields = text_of(await record.run(ORIGINS, *paths)).split("\0")
    rows = list(zip(*(fields[at::4] for at in range(4)), strict=False))
    fetched = await record.fetched(head for _, head, _, _ in rows)
    found = {}
    for path, head, origin, is_there in rows:
        is_named = is_remote(urls[path]) or urls[path].startswith(("./", "../"))
        if is_named and (head in fetched or (is_there and is_remote(origin))):
            found[path] = head
    return found
