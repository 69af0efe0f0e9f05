"""State of a program that the launcher started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from myctobot.stack.postgres import named_user
from myctobot.stack.processes import ProcessId, wait_until_gone
from myctobot.stack.programs import DropRoot, Program

UID = 60991


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program("probe", ("cat", "/proc/self/status"), {"PATH": os.defpath, "ONLY": "this"}, tmp_path)


def run(program: Program) -> str:
    process = program.popen(subprocess.PIPE)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output.decode()
    return output.decode()


def status(program: Program) -> dict[str, str]:
    return {name: value.strip() for name, _, value in (line.partition(":") for line in run(program).splitlines())}


def test_the_environment_is_the_programs_own(program: Program) -> None:
    names = {line.partition("=")[0] for line in run(replace(program, argv=("env",))).splitlines()}
    # Python's launcher may set LC_CTYPE, so that bytes and text match.
    assert names - {"LC_CTYPE"} == {"PATH", "ONLY"}


def test_it_leads_a_session(program: Program) -> None:
    found = run(replace(program, argv=("sh", "-c", "echo $$ $(cut -d' ' -f6 /proc/$$/stat)"))).split()
    assert found[0] == found[1]


def test_a_missing_program_is_named(program: Program) -> None:
    process = replace(program, argv=("/no/such/program",)).popen(subprocess.PIPE)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert b"No such file or directory" in output


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys; from pathlib import Path; from myctobot.stack.programs import Program;"
        "program = Program('x', ('sleep', '60'), {'PATH': '/usr/bin:/bin'}, Path('/'));"
        "print(program.popen(subprocess.DEVNULL).pid, flush=True);"
        "sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        child = ProcessId.of(int(parent.stdout.readline()))
        assert child
        parent.send_signal(signal.SIGKILL)
    assert wait_until_gone([child], 10) == []


def drop(program: Program, *reach: Path) -> Program:
    """Return the program with a change of user, if root runs the test."""
    return replace(program, drop_root=DropRoot(UID, reach)) if os.geteuid() == 0 else program


@pytest.mark.needs("root")
def test_dropping_root_leaves_no_right(program: Program) -> None:
    found = status(drop(program))
    assert found["Uid"].split() == found["Gid"].split() == [str(UID)] * 4
    assert found["Groups"] == ""
    assert found["NoNewPrivs"] == "1"
    assert {int(found[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert found["Umask"] == "0077"


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A folder that only root can enter, with the folders ``given`` and ``other``, and a file in each."""
    folder = tmp_path / "closed"
    for name in ("given", "other"):
        (folder / name / "private").mkdir(parents=True)
        (folder / name / "file").write_text(name)
        (folder / name / "private").chmod(0o700)
        (folder / name / "private" / "file").write_text("deep")
    folder.chmod(0o700)
    return folder


def reads(program: Program, path: Path, *reach: Path) -> str:
    """Return what a program of another user reads from a file, or its error."""
    process = drop(replace(program, argv=("cat", str(path))), program.cwd, *reach).popen(subprocess.PIPE)
    return process.communicate(timeout=30)[0].decode()


@pytest.mark.needs("root")
def test_a_folder_below_a_closed_one_can_be_given(program: Program, closed: Path) -> None:
    assert reads(program, closed / "given" / "file", closed / "given") == "given"
    assert "Permission denied" in reads(program, closed / "given" / "private" / "file", closed / "given")
    assert "No such file" in reads(program, closed / "other" / "file", closed / "given")
    assert closed.stat().st_mode & 0o777 == 0o700


@pytest.mark.needs("root")
def test_a_file_and_a_folder_below_a_given_one_can_be_given(program: Program, closed: Path) -> None:
    deep, single = closed / "given" / "private" / "file", closed / "other" / "file"
    assert reads(program, deep, deep, closed / "given", single) == "deep"
    assert reads(program, single, deep, closed / "given", single) == "other"
    assert reads(program, closed / "given" / "file", deep, closed / "given", single) == "given"


@pytest.mark.needs("root")
def test_a_given_path_must_exist(program: Program, closed: Path) -> None:
    assert "No such file" in reads(program, closed, closed / "nothing")


def test_a_user_without_a_name_can_be_shown_one(program: Program) -> None:
    nameless = replace(drop(program), argv=("id", "-u"), appear_as=named_user())
    process = nameless.popen(subprocess.PIPE)
    output, _ = process.communicate(timeout=30)
    # Some machines forbid user namespaces; then it has to say so.
    assert output.decode().strip() == str(named_user()) or b"no user namespace" in output
