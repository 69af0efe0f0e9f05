from __future__ import annotations

from workers.git.agent_state import MAX_REFS, MAX_STASHES, AgentState, parse_state

A, B, C, D = ("a" * 40, "b" * 40, "c" * 40, "d" * 40)
TEXT = f"""@packed
# pack-refs with: peeled fully-peeled sorted
{A} refs/heads/main
{A} refs/tags/v1
^{B}
@refs
HEAD:ref: refs/heads/feature/ai
refs/heads/feature/ai:{B}
refs/heads/main:{C}
refs/heads/broken:garbage
worktrees/wt/HEAD:{D}
@stash
{"0" * 40} {A} Ada <a@example.com> 1 +0000\tWIP
{A} {B} Ada <a@example.com> 1 +0000\tWIP
@log
{A} {B} Ada <a@example.com> 1 +0000\tcheckout: moving from {C} to main
{A} {B} Ada <a@example.com> 1 +0000\tcheckout: moving from main to other
{A} {B} Ada <a@example.com> 1 +0000\tcommit: moving from {D} to main
@merged
{D}
@objects
7
"""


def test_the_files_of_a_repository_are_read() -> None:
    state = parse_state(TEXT)
    assert state.head == B
    assert state.refs == {
        "refs/heads/main": C,
        "refs/tags/v1": A,
        "refs/heads/feature/ai": B,
        "worktree wt": D,
    }
    assert (state.stashes, state.left_heads, state.merged, state.objects) == ((B, A), (C,), (D,), 7)


def test_anything_else_is_an_empty_state() -> None:
    for text in ("", "@refs\nHEAD:garbage\n", "@packed\nx y\n@objects\nmany\n@unknown\n", "@@\n:\n"):
        assert parse_state(text) == AgentState()


def test_tags_do_not_hide_branches() -> None:
    tags = "\n".join(f"{A} refs/tags/v{number:05}" for number in range(MAX_REFS + 5))
    refs = parse_state(f"@packed\n{tags}\n@refs\nrefs/heads/main:{B}\nrefs/heads/next\u0085line:{C}\n").refs
    assert (refs["refs/heads/main"], refs["refs/heads/next\u0085line"], len(refs)) == (B, C, MAX_REFS)


def test_objects_with_sha256_names_are_read() -> None:
    long = "e" * 64
    text = f"@refs\nHEAD:{long}\n@log\n{long} {long} A <a> 1 +0000\tcheckout: moving from {long} to main\n"
    state = parse_state(text)
    assert (state.head, state.left_heads) == (long, (long,))


def test_the_number_of_stashes_is_bounded() -> None:
    lines = "\n".join(f"{A} {number:040x} x" for number in range(1000))
    assert len(parse_state(f"@stash\n{lines}").stashes) == MAX_STASHES
