"""Command ``python -m myctobot.stack.background``: a process of the control plane that serves no requests."""

from __future__ import annotations

import argparse
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any, Final

from celery import Celery
from celery.apps.beat import Beat
from celery.utils.nodenames import host_format
from django.conf import settings

from myctobot.contract import loading
from myctobot.logging import configure

THREADS: Final = 4
MAX_THREADS: Final = 64
WORKERS: Final = ("control", "operations")
# The users of the programs have no names. Where root runs a worker, ``users.py`` says why.
_KNOWN_WARNINGS: Final = ("You're running the worker with superuser privileges", "An entry for the specified gid")


class _Beat(Beat):
    """Beat without the tasks' modules, because the schedule names the tasks; it takes 41 MB less."""

    def init_loader(self) -> None:
        if self.app is not None:
            self.app.finalize()


def run_worker(app: Celery[Any], name: str, threads: int) -> int:
    """Run the tasks of a queue until a signal ends this process.

    Celery's own command does the same, and would take 12 MB more, because it imports all its subcommands.

    Args:
        name: name of the queue, and of this worker.

    Returns:
        The exit code.
    """
    # The migrations of each release make Django's checks, which would import every page here.
    os.environ["CELERY_SKIP_CHECKS"] = "1"
    worker = app.Worker(
        hostname=host_format(f"{name}@%h"),
        pool_cls="threads",
        concurrency=threads,
        queues=[name],
        loglevel="INFO",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    # The worker has imported the tasks.
    loading.finish()
    worker.start()
    return int(worker.exitcode or 0)


def run_beat(app: Celery[Any], schedule: Path) -> None:
    """Send the periodic tasks until a signal ends this process.

    Args:
        schedule: file for the times of the last runs.
    """
    # Otherwise Django's apps do this.
    configure(settings.LOGGING)
    beat = _Beat(app=app, schedule=str(schedule), loglevel="INFO", quiet=True)
    loading.finish()
    beat.run()


def main() -> int:
    """Run one process, and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m myctobot.stack.background", description=__doc__)
    commands = parser.add_subparsers(dest="name", required=True)
    for name in WORKERS:
        worker = commands.add_parser(name, help=f"run the tasks of the queue {name}")
        worker.add_argument(
            "--threads",
            type=_thread_count,
            default=THREADS,
            help="number of tasks at the same time (default %(default)s)",
        )
    beat_parser = commands.add_parser("beat", help="send the periodic tasks; run one process of this kind")
    file_help = "file for the times of the last runs"
    beat_parser.add_argument("--schedule", type=Path, default=Path("schedule"), help=file_help)
    options = parser.parse_args()
    for message in _KNOWN_WARNINGS:
        warnings.filterwarnings("ignore", message)
    loading.begin()
    from myctobot.celery import app

    if options.name != "beat":
        return run_worker(app, options.name, options.threads)
    run_beat(app, options.schedule)
    return 0


def _thread_count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= MAX_THREADS:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {MAX_THREADS}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
