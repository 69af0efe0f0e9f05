"""``python -m shards.providers.process.launcher FOLDER PID_FILE``: enrols a shard that is a process, then becomes its worker.

Run by ``shards.providers.process.provider`` with an environment that holds the invitation and little else. It uses the standard
library alone. What it writes goes to the shard's log.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

# As ``workers.enroll`` says it: nobody answered, try again.
_NOT_YET: Final = 1
_ENROL_TIMEOUT_S: Final = 900
_TOKEN: Final = "MYCTOBOT_ENROL_TOKEN"  # noqa: S105  # the variable's name


def main(folder: Path, pid_file: Path) -> int:
    """Returns an exit code when the worker cannot start; else it never returns."""
    note_self(pid_file)
    config = folder / "config.json"
    command = [sys.executable, "-m", "workers.enroll", "--config", str(config), "--environ", "/dev/null"]
    while (code := subprocess.run(command, timeout=_ENROL_TIMEOUT_S, check=False).returncode) == _NOT_YET:
        pass
    if code:
        return code
    keep_at_home(config, folder)
    environment = {name: value for name, value in os.environ.items() if name != _TOKEN}
    worker = [sys.executable, "-m", "workers.main", "--config", str(config)]
    os.execve(sys.executable, worker, environment)  # noqa: S606  # that is its purpose


def note_self(pid_file: Path) -> None:
    """Write down which process this is, as the embedded stack does with its own; it stays the same as the worker."""
    stat = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace")
    started = int(stat.rpartition(")")[2].split()[19])
    write(pid_file, {"pid": os.getpid(), "start_time": started, "stop_signal": int(signal.SIGTERM)})


def keep_at_home(config: Path, folder: Path) -> None:
    """Let the worker keep its files in its own folder: the usual ones are those of a machine with one shard."""
    values = json.loads(config.read_text(encoding="utf-8"))
    values["run_path"] = str(folder / "run")
    values["cleanup"] = {**values.get("cleanup", {}), "workspace_path": str(folder / "jobs")}
    write(config, values)


def write(path: Path, values: dict[str, Any]) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    draft.replace(path)


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
