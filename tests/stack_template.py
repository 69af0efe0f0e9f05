"""Migrated database cluster, which the stacks of a run copy."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from myctobot.stack.environment import Addresses, base_environment, own_variables
from myctobot.stack.home import GeneratedSecrets, Home
from myctobot.stack.plan import CHECKOUT
from myctobot.stack.postgres import EmbeddedPostgres
from tests.run import RUN_FOLDER, once_per_run

_NAME = "stack-template"
MIGRATE_TIMEOUT_S = 120


def copy_database(home: Path) -> None:
    """Copy a migrated cluster to a new home; do nothing outside a test run or when the home has one.

    The cluster contains no secret and no user of a stack, so each stack creates its own.
    """
    if RUN_FOLDER not in os.environ or (home / "pg").exists():
        return
    with once_per_run(_NAME) as missing:
        if missing:
            _create(missing)
    source = Path(os.environ[RUN_FOLDER]) / _NAME / "pg" / "data"
    Home(home).prepare()
    (home / "pg").mkdir(mode=0o700)
    # cp keeps the owner, unlike shutil. Under root, the owner is the user of PostgreSQL.
    subprocess.run([shutil.which("cp") or "cp", "-a", str(source), str(home / "pg" / "data")], check=True)


def _create(folder: Path) -> None:
    home = Home(folder)
    home.prepare()
    postgres = EmbeddedPostgres(folder, durable=False)
    nowhere = "http://127.0.0.1:1"
    try:
        addresses = Addresses(postgres.start(), "redis://127.0.0.1:1/0", nowhere, nowhere)
        own = own_variables({}, home, GeneratedSecrets.load_or_create(folder), addresses)
        subprocess.run(
            [sys.executable, "manage.py", "migrate", "--no-input", "--verbosity", "0"],
            cwd=CHECKOUT,
            env={**base_environment(os.environ, home), **own},
            timeout=MIGRATE_TIMEOUT_S,
            check=True,
        )
    finally:
        postgres.stop()
