"""Files and folders that an agent's tags name instead of commits. They are kept as commits on top of the start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from workers.git.record import PACK_TIMEOUT_S, CheckoutRecord, text_of

MAX_OBJECTS: Final = 20
_KINDS: Final = {"blob": "a file", "tree": "a folder"}

# Prints for each object its kind and a commit with it, or the word "known" if the runner fetched it.
WRAP: Final = """
start=$1 sources=$2
export GIT_INDEX_FILE=$GIT_DIR/tagged
mkdir -p "$GIT_DIR/none"
while read -r sha path; do
  object=$(git rev-parse --verify --quiet "$sha^{}") && kind=$(git cat-file -t "$object") || continue
  if GIT_OBJECT_DIRECTORY=$GIT_DIR/none GIT_ALTERNATE_OBJECT_DIRECTORIES=$sources git cat-file -e "$object" 2>/dev/null
  then echo "$sha $kind known"; continue; fi
  git read-tree "$start" || continue
  case $kind in
    blob) git update-index --add --cacheinfo "100644,$object,$path" || continue;;
    tree) git read-tree --prefix="$path/" "$object" || continue;;
    *) continue;;
  esac
  tree=$(git write-tree) && commit=$(git commit-tree "$tree" -p "$start" -m "Contents of $path") || continue
  echo "$sha $kind $commit"
done
"""


@dataclass(frozen=True)
class TaggedObject:
    """File or folder that a ref names.

    Args:
        name: name of the ref, and what it names.
        commit: commit that has it, or None for an object that the repository had before.
    """

    name: str
    commit: str | None


async def wrap_objects(record: CheckoutRecord, names: Mapping[str, str]) -> dict[str, TaggedObject]:
    """Commit files and folders, and return them by the given objects; what is damaged or no file is missing.

    Args:
        names: names of refs for people, by the objects of the refs.
    """
    data = "".join(f"{sha} {name}\n" for sha, name in list(names.items())[:MAX_OBJECTS])
    encoded = data.encode(errors="surrogateescape")
    done = await record.run(WRAP, record.start, record.fetched_folders, stdin=encoded, timeout_s=PACK_TIMEOUT_S)
    rows = [line.split(" ") for line in text_of(done).splitlines()]
    whole = await record.readable([row[2] for row in rows if row[2] != "known"])
    found = {}
    for sha, kind, commit in rows:
        if kind in _KINDS and (commit == "known" or commit in whole):
            name = f"{names[sha]} ({_KINDS[kind]})"
            found[sha] = TaggedObject(name, None if commit == "known" else commit)
    return found
