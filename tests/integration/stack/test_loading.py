"""Programs of the stack load their modules without garbage collections, and collect garbage afterwards."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from myctobot.stack.plan import CHECKOUT
from tests.stacks import bare_environment

# Modules of a program are tens of thousands of objects.
SEEN = "import gc; print('garbage', gc.isenabled(), gc.get_freeze_count() > 30_000)"
# Each program runs until it would begin its work.
WORKER = f"""
import sys
from celery.worker import WorkController
WorkController.start = lambda self: exec({SEEN!r})
from myctobot.stack.background import main
sys.argv[1:] = ["control"]
main()
"""
BEAT = f"""
import sys
from celery.apps.beat import Beat
Beat.start_scheduler = lambda self: exec({SEEN!r})
from myctobot.stack.background import main
sys.argv[1:] = ["beat"]
main()
print("models", "jobs.models" in sys.modules)
"""
SERVER = f"""
import sys
from myctobot.stack import serve
serve.Server.run = lambda self, sockets: exec({SEEN!r})
sys.argv[1:] = ["--port", "0", "myctobot.asgi_gateway:application"]
serve.main()
"""
SHARD = f"""
import sys
from workers.worker import start
start.run_shard = lambda path: exec({SEEN!r})
from workers.main import main
main()
"""


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["manage.py", "shell", "--no-imports", "-c", SEEN], id="command"),
        *(
            pytest.param(["-c", code], id=name)
            for name, code in {"worker": WORKER, "beat": BEAT, "server": SERVER, "shard": SHARD}.items()
        ),
    ],
)
def test_a_program_collects_garbage_after_its_start(arguments: Sequence[str], tmp_path: Path) -> None:
    lines = run(arguments, tmp_path).splitlines()
    assert [line for line in lines if line.startswith("garbage")] == ["garbage True True"]


def test_beat_imports_no_models(tmp_path: Path) -> None:
    assert run(["-c", BEAT], tmp_path).splitlines()[-1] == "models False"


def run(arguments: Sequence[str], home: Path) -> str:
    environ = {**bare_environment(home), "DJANGO_SETTINGS_MODULE": "myctobot.settings"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=CHECKOUT, env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
