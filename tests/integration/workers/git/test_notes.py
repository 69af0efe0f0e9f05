"""Project notes in the forms that projects use; they come from the base commit, and the log says what is passed on."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.factories import git_fixtures
from tests.factories.git_jobs import Job, Jobs
from tests.fixtures.repos import commit, git

pytestmark = pytest.mark.anyio

jobs = git_fixtures.folder_jobs


def publish(remote: Path, files: Mapping[str, str], links: Mapping[str, str]) -> None:
    """Replace the base branch's notes by these files and links."""
    work = remote.with_name("repo.git.work")
    (work / "CLAUDE.md").unlink()
    for name, target in links.items():
        (work / name).parent.mkdir(exist_ok=True)
        (work / name).symlink_to(target)
    commit(work, files)
    git(work, "push", "-q", str(remote), "main")


async def notes(jobs: Jobs) -> tuple[str | None, str, Job]:
    job = jobs()
    found = (await job.workspace.prepare()).notes
    return found.text, found.source, job


async def test_the_base_branchs_notes_come_as_text(jobs: Jobs) -> None:
    text, source, job = await notes(jobs)
    assert (text, source) == ("Be kind.\n", "CLAUDE.md")
    assert "Project notes for the agent: CLAUDE.md" in job.logged()


@pytest.mark.parametrize(
    ("files", "links", "text", "source"),
    [
        pytest.param({"AGENTS.md": "A"}, {}, "A", "AGENTS.md", id="AGENTS.md alone"),
        pytest.param({"AGENTS.md": "A"}, {"CLAUDE.md": "AGENTS.md"}, "A", "CLAUDE.md", id="a link"),
        pytest.param({"docs/a.md": "A"}, {"x/l": "../docs", "CLAUDE.md": "x/l/a.md"}, "A", "CLAUDE.md", id="links"),
        pytest.param(
            {"AGENTS.md": "A", "CLAUDE.md": "@AGENTS.md\n"}, {}, "@AGENTS.md\n\n\nA", "CLAUDE.md, AGENTS.md",
            id="an import",
        ),
        pytest.param(
            {".claude/CLAUDE.md": "@../docs/b.md", "docs/b.md": "@c.md", "docs/c.md": "C"}, {},
            "@../docs/b.md\n\n@c.md\n\nC", ".claude/CLAUDE.md, docs/b.md, docs/c.md", id="imports from a folder",
        ),
        pytest.param(
            {"CLAUDE.md": "@a.md", "a.md": "@CLAUDE.md"}, {}, "@a.md\n\n@CLAUDE.md", "CLAUDE.md, a.md", id="a circle"
        ),
    ],
)  # fmt: skip
async def test_the_usual_forms_are_passed_on(
    jobs: Jobs, remote: Path, files: dict[str, str], links: dict[str, str], text: str, source: str
) -> None:
    publish(remote, files, links)
    found_text, found_source, job = await notes(jobs)
    assert (found_text, found_source) == (text, source)
    assert f"Project notes for the agent: {source}" in job.logged()
    assert "Not passed on" not in job.logged()


@pytest.mark.parametrize(
    ("files", "links", "reason"),
    [
        pytest.param({}, {"CLAUDE.md": "/etc/passwd"}, "CLAUDE.md (its link leads out of the repo", id="absolute"),
        pytest.param({}, {"CLAUDE.md": "../../secret"}, "CLAUDE.md (its link leads out of", id="out of the repository"),
        pytest.param({}, {"CLAUDE.md": "none"}, "CLAUDE.md (its link leads to no file)", id="dangling"),
        pytest.param({}, {"CLAUDE.md": "x", "x": "CLAUDE.md"}, "CLAUDE.md (its links lead in a circle)", id="a circle"),
        pytest.param({"CLAUDE.md/x": ""}, {}, "CLAUDE.md (it is a folder)", id="a folder"),
        pytest.param({"CLAUDE.md": "@/etc/passwd"}, {}, "/etc/passwd (it is outside of the repository)", id="import"),
        pytest.param({"CLAUDE.md": "@docs/none.md"}, {}, "docs/none.md (there is no such file)", id="no such import"),
        pytest.param({"CLAUDE.md": "C", "AGENTS.md": "A"}, {}, "AGENTS.md (CLAUDE.md comes first", id="another form"),
    ],
)  # fmt: skip
async def test_the_log_says_what_is_not_passed_on(
    jobs: Jobs, remote: Path, files: dict[str, str], links: dict[str, str], reason: str
) -> None:
    publish(remote, files, links)
    text, _, job = await notes(jobs)
    assert reason in job.logged()
    assert "root:" not in (text or "")


async def test_without_notes_the_log_says_so(jobs: Jobs, remote: Path) -> None:
    publish(remote, {}, {})
    text, _, job = await notes(jobs)
    assert text is None
    assert "No project notes for the agent" in job.logged()


async def test_notes_are_bounded(jobs: Jobs, remote: Path) -> None:
    many = {f"n{number}.md": "".join(f"@n{number + 1}.md\n" for _ in range(3)) for number in range(30)}
    publish(remote, {"CLAUDE.md": "@n0.md @large.md\n", "large.md": "\u00e4" * 40_000, **many}, {})
    text, _, job = await notes(jobs)
    assert text is not None
    assert len(text.encode()) < 65 * 2**10
    assert "large.md (only its first" in job.logged()
    assert "imports go at most 5 files deep" in job.logged()


async def test_notes_of_random_bytes_are_text(jobs: Jobs, remote: Path) -> None:
    work = remote.with_name("repo.git.work")
    (work / "CLAUDE.md").write_bytes(random.Random(1).randbytes(2000))
    commit(work, {})
    git(work, "push", "-q", str(remote), "main")
    text, _, _ = await notes(jobs)
    assert text
