"""Shell scripts of the record of a checkout, which run in the sandbox with the record as git's repository."""

from __future__ import annotations

from typing import Final

from workers.git.attributes import AS_IS
from workers.sandbox.sandbox import WORKSPACE

RECORD: Final = "/run/record"
AGENT_GIT: Final = f"{WORKSPACE}/.git"

# Only attributes make git store other bytes than a file has: for line ends, in files with a carriage return.
CREATE: Final = f"""
set -e
for kind in plain raw; do
  GIT_DIR={RECORD}/$kind git init --quiet --template= --object-format="$2"; mkdir -p {RECORD}/$kind/info
  cp {AGENT_GIT}/index {RECORD}/$kind/index
done
echo '* {AS_IS}' > {RECORD}/raw/info/attributes
git rev-parse "$1^{{tree}}" > {RECORD}/bytes
git ls-files -z --stage | grep -z '^160000' || :
printf '\\0'
if [ -z "$(git ls-files -- .gitattributes '*/.gitattributes' | head -n 1)" ]; then exit 0; fi
if git grep -q --cached -E 'ident|encoding' -- .gitattributes '*/.gitattributes'
then git ls-files -z > {RECORD}/convertible
else grep -rlZF --exclude-dir=.git "$(printf '\\r')" . | sed -z 's,^\\./,,' > {RECORD}/convertible
fi
if ! [ -s {RECORD}/convertible ]; then exit 0; fi
for kind in plain raw; do
  GIT_DIR={RECORD}/$kind
  git update-index -z --force-remove --stdin < {RECORD}/convertible
  git update-index -z --add --stdin < {RECORD}/convertible
  if [ $kind = raw ]; then git write-tree > {RECORD}/bytes
  else git diff-index --cached --raw -z --no-renames "$1" --; fi
done
"""

# The agent's own git must not convert these files either.
KEEP_VERBATIM: Final = f"""
set -e
cat > {RECORD}/plain/info/attributes
mkdir -p {AGENT_GIT}/info
cp {RECORD}/plain/info/attributes {AGENT_GIT}/info/attributes
git read-tree --reset "$1"
git update-index -q --refresh || :
unset GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_INDEX_FILE
GIT_DIR={AGENT_GIT} git update-index -q --refresh || :
"""

# The agent may have chosen what git ignores and how it stores files in its own settings.
READ_TREE: Final = f"""
if [ -f {AGENT_GIT}/info/attributes ] && [ ! -L {AGENT_GIT}/info/attributes ]; then
  head -c 1000000 {AGENT_GIT}/info/attributes > {RECORD}/plain/info/attributes
elif [ -f {AGENT_GIT}/HEAD ]; then
  rm -f {RECORD}/plain/info/attributes
fi
: > {RECORD}/plain/info/exclude
if [ -f {AGENT_GIT}/info/exclude ] && [ ! -L {AGENT_GIT}/info/exclude ]; then
  head -c 1000000 {AGENT_GIT}/info/exclude > {RECORD}/plain/info/exclude
  echo >> {RECORD}/plain/info/exclude
fi
cat >> {RECORD}/plain/info/exclude
git read-tree --reset "$1"
"""

# Modes, objects and names in the agent's own index, without the timestamps that git refreshes.
INDEX_DIGEST: Final = f"GIT_INDEX_FILE={AGENT_GIT}/index git ls-files -z --stage | sha256sum"

# New files, and after an empty name those that can be dumps of a program's memory.
NEW_FILES: Final = """
git ls-files -z --others --exclude-standard
printf '\\0'
find . -name .git -prune -o -type f -size +1024k '(' -name "$1" -o -name "$2" -o -name "$3" ')' -print0
"""

# Files that the agent added although they are ignored, according to its own index.
FORCED: Final = f"""
unset GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_INDEX_FILE
GIT_DIR={AGENT_GIT} git ls-files -z --cached --ignored --exclude-standard
"""

# Print 'S ' and the path for each file that a sparse checkout leaves out. Git looks for it in the current folder.
SKIPPED: Final = """
cd "$GIT_WORK_TREE" || exit 0
unset GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_INDEX_FILE
GIT_DIR=$GIT_WORK_TREE/.git git ls-files -z -t --cached | grep -z '^S ' || :
"""

# The raw index gets only the candidates, so each of them is hashed, and no timestamp matters.
COMPARE_BYTES: Final = f"""
set -e
export GIT_DIR={RECORD}/raw GIT_INDEX_FILE={RECORD}/raw/candidates
git read-tree "$(cat {RECORD}/bytes)"
git update-index -z --remove --stdin
git diff-index --cached --raw -z --no-renames "$(cat {RECORD}/bytes)" --
"""

# A stash is a merge of the files, the index and, as its third parent, the files that were not in the index.
UNSTASH: Final = """
message=$1
export GIT_INDEX_FILE=$GIT_DIR/stash
while read -r sha; do
  git read-tree "$sha" && if untracked=$(git rev-parse --verify --quiet "$sha^3"); then
    git ls-tree -r -z --full-tree "$untracked" | git update-index -z --index-info
  fi
  tree=$(git write-tree) && printf '%s' "$message" | git commit-tree "$tree" -p "$sha^1" -F - || echo
done
"""

# Print the commit for each object whose history after the start is complete.
READABLE: Final = """
while read -r sha; do
  commit=$(git rev-parse --verify --quiet "$sha^{commit}") || continue
  git rev-list --quiet --objects "$commit" --not "$1" -- || continue
  echo "$sha $commit"
done
"""

# Only the objects of the environment count.
FETCHED: Final = """
mkdir -p "$GIT_OBJECT_DIRECTORY"
while read -r sha; do if git cat-file -e "$sha^{commit}" 2>/dev/null; then echo "$sha"; fi; done
"""

LINKS: Final = """
git ls-tree -r -z --full-tree "$1" | grep -z '^160000' || :
"""

# Print '+' and the path for each folder with anything in it, and '-' and the path for each empty one.
FOLDERS: Final = """
exec xargs -0 -r sh -c '
for path; do
  if [ -L "./$path" ] || ! [ -d "./$path" ]; then continue; fi
  if [ -n "$(find "./$path" -mindepth 1 -maxdepth 1 -print -quit)" ]; then printf "+%s\\0" "$path"
  else printf -- "-%s\\0" "$path"; fi
done' sh
"""

# Print the paths of files whose bytes are what a checkout of the commit writes.
AS_CHECKED_OUT: Final = """
cd "$GIT_WORK_TREE" || exit 1
commit=$1
export commit
exec xargs -0 -r sh -c '
for path; do
  if [ -f "./$path" ] && ! [ -L "./$path" ] &&
    git cat-file --filters "$commit:$path" 2>/dev/null | cmp -s - "./$path"; then printf "%s\\0" "$path"; fi
done' sh
"""

EMPTY_COMMIT: Final = """
tree=$(git hash-object -t tree -w --stdin < /dev/null) && exec git commit-tree "$tree" -m "No files" < /dev/null
"""

# Commit the tree of the start with the entries of the input.
COMMIT_ENTRIES: Final = """
export GIT_INDEX_FILE=$GIT_DIR/entries
git read-tree "$1" && git update-index -z --index-info && tree=$(git write-tree) || exit 1
printf '%s\n' "$3" | git commit-tree "$tree" -p "$2" -F -
"""

SUBJECTS: Final = """
git log --max-count=100 --format=%s "$2" --not "$1" -- | head -c 20000
"""

# Print the size of each new object.
SIZES: Final = """
git rev-list --objects --no-object-names "$2" --not "$1" -- | git cat-file --batch-check='%(objectsize)'
"""

NEW_COMMITS: Final = """
known=$*
while read -r sha; do
  if [ -n "$(git rev-list --max-count=1 "$sha" --not $known --)" ]; then echo "$sha"; fi
done
"""

COPIES: Final = r"""
export GIT_ALTERNATE_OBJECT_DIRECTORIES=
start=$1; shift
for path; do
  if GIT_OBJECT_DIRECTORY="$path/.git/objects" git cat-file -e "$start^{commit}" 2>/dev/null
  then printf '%s\0' "$path"; fi
done
"""

COMMIT_INDEX: Final = """
tree=$(git write-tree) || exit 1
parent=$1; shift
if [ "$tree" = "$(git rev-parse "$parent^{tree}")" ] && [ $# = 0 ]; then exit 0; fi
git commit-tree "$tree" -p "$parent" "$@" -F -
"""

# Commit what the index of another work tree has. In a conflict, the side of that work tree counts first.
COMMIT_OTHER_INDEX: Final = f"""
if ! [ -f "$1" ]; then exit 0; fi
export GIT_INDEX_FILE=$GIT_DIR/other
cp -- "$1" "$GIT_INDEX_FILE" || exit 1; shift
for stage in 1 3 2; do
  git ls-files -z --unmerged | sed -nz "s/^\\([0-7]* [0-9a-f]*\\) $stage\\t/\\1 0\\t/p"
done > $GIT_DIR/sides
if [ -s $GIT_DIR/sides ]; then git update-index -z --index-info < $GIT_DIR/sides || exit 1; fi
{COMMIT_INDEX}"""
