"""End of the stacks that the next group of tests does not use."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import pytest_plugins
from tests.idle_stacks import STACKS

from .inner import run_pytest

SHARED = """
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent

@pytest.fixture(scope="session")
def stack():
    (FOLDER / "stack").touch()
    yield "stack"
    (FOLDER / "stack").unlink()

@pytest.fixture(scope="session")
def other():
    (FOLDER / "other").touch()
    yield "other"
    (FOLDER / "other").unlink()

@pytest.fixture(scope="module")
def user(stack):
    yield
    assert (FOLDER / "stack").exists()

def states():
    return [(FOLDER / name).exists() for name in ("stack", "other")]
"""
USES = """
from conftest import states

def test_starts(user, other):
    assert states() == [True, True]

def test_lasts():
    assert states() == [True, True]
"""
LEAVES = """
from conftest import states

def test_left():
    assert states() == [False, True]
"""
AGAIN = """
from conftest import states

def test_again(stack):
    assert states() == [True, True]
"""


def test_a_stack_ends_with_the_group_that_uses_it_and_can_start_again(tmp_path: Path) -> None:
    for name, text in (("conftest", SHARED), ("test_leaves", LEAVES), ("test_starts_again", AGAIN)):
        (tmp_path / f"{name}.py").write_text(text)
    output = run_pytest(tmp_path, USES, "-v", str(tmp_path))
    assert "4 passed" in output, output


@pytest.mark.parametrize("name", STACKS)
def test_each_name_is_a_session_fixture(name: str) -> None:
    root = Path(__file__).parents[2]
    texts = [path.read_text() for path in root.rglob("conftest.py")]
    assert any(f'@pytest.fixture(scope="session")\ndef {name}(' in text for text in texts)


def test_the_plugin_runs_in_every_session() -> None:
    assert "tests.idle_stacks" in pytest_plugins
