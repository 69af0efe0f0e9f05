"""Launcher of a shard that is a process: enrols the shard, then executes its worker.

``shards.providers.process.provider`` runs it with an environment that contains the enrolment token and little else. It
uses only the standard library. Its output goes to the shard's log.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

# Exit code of ``workers.enroll`` when the control plane did not answer.
_TRY_AGAIN: Final = 1
_ENROL_TIMEOUT_S: Final = 900
_TOKEN: Final = "MYCTOBOT_ENROL_TOKEN"  # noqa: S105  # the variable's name


def main(folder: Path, pid_file: Path) -> int:
    """Enrol and execute the worker; return an exit code only if the worker cannot start."""
    write_pid_file(pid_file)
    config = folder / "config.json"
    command = [sys.executable, "-m", "workers.enroll", "--config", str(config), "--environ", "/dev/null"]
    while (code := subprocess.run(command, timeout=_ENROL_TIMEOUT_S, check=False).returncode) == _TRY_AGAIN:
        pass
    if code:
        return code
    set_paths(config, folder)
    environment = {name: value for name, value in os.environ.items() if name != _TOKEN}
    worker = [sys.executable, "-m", "workers.main", "--config", str(config)]
    os.execve(sys.executable, worker, environment)  # noqa: S606  # that is its purpose


def write_pid_file(pid_file: Path) -> None:
    """Store the identity of this process, in the format of the embedded stack; the worker keeps the process."""
    stat = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace")
    started = int(stat.rpartition(")")[2].split()[19])
    write(pid_file, {"pid": os.getpid(), "start_time": started, "stop_signal": int(signal.SIGTERM)})


def set_paths(config: Path, folder: Path) -> None:
    """Let the worker use its own folder, because the default paths allow one shard per machine."""
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
