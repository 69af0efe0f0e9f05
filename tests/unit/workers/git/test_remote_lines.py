from __future__ import annotations

from workers.git.remote_lines import MAX_LINES, MAX_SHOWN, RemoteLines, quote
from workers.git.trace import NOTHING, GitError, GitTrace


def collected(*lines: str, is_ssh: bool = False, trace: GitTrace = NOTHING) -> tuple[str, ...]:
    collector = RemoteLines(is_ssh=is_ssh)
    for line in lines:
        collector.add(line)
    return collector.result(trace)


def test_only_lines_of_the_remote_count_and_its_progress_does_not() -> None:
    lines = ["remote: Counting objects: 100% (3/3), done.", "remote: ", "remote: GL-HOOK-ERR: no", "fatal: the end"]
    assert collected(*lines) == ("GL-HOOK-ERR: no",)


def test_a_server_behind_ssh_needs_no_prefix() -> None:
    trace = GitTrace((GitError("Could not read ...", "Could not read from remote repository.\n\nPlease ..."),))
    lines = [
        "Cloning into bare repository 'clean.git'...",
        "ERROR: Repository not found.",
        "fatal: Could not read from remote repository.",
        "hint: ask",
        "To ssh://h/r",
    ]
    assert collected(*lines, is_ssh=True, trace=trace) == ("ERROR: Repository not found.",)


def test_the_first_lines_are_kept() -> None:
    assert collected(*(f"remote: {number}" for number in range(9000))) == tuple(map(str, range(MAX_LINES)))


def test_a_quote_is_bounded() -> None:
    assert quote(["no", "why"]) == "The server said: no / why"
    assert len(quote(["x" * 2000] * 40)) < 1600
    assert quote(["x"] * (MAX_SHOWN + 1)).endswith("x / …")
    assert not quote(["x"] * MAX_SHOWN).endswith("…")
    assert quote([]) == ""
