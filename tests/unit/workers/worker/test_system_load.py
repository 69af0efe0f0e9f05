from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from workers.worker.system_load import MB, ProcessorLoad, memory_total_mb, memory_used_mb

V1 = {
    "memory/memory.limit_in_bytes": str(512 * MB),
    "memory/memory.usage_in_bytes": str(300 * MB),
    "memory/memory.stat": f"cache 1\ntotal_inactive_file {100 * MB}",
    "cpu/cpu.cfs_quota_us": "50000",
    "cpu/cpu.cfs_period_us": "100000",
    "cpuacct/cpuacct.usage": "1000000000",
}
V2 = {
    "memory.max": str(512 * MB),
    "memory.current": str(300 * MB),
    "memory.stat": f"anon 5\ninactive_file {100 * MB}",
    "cpu.max": "50000 100000",
    "cpu.stat": "usage_usec 1000000\nuser_usec 1",
}


def groups(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


@pytest.mark.parametrize("files", [V1, V2], ids=["v1", "v2"])
def test_only_the_container_is_measured(tmp_path: Path, files: dict[str, str]) -> None:
    root = groups(tmp_path, files)
    assert (memory_used_mb(root), memory_total_mb(root)) == (200, 512)


@pytest.mark.parametrize(("files", "more"), [(V1, {"cpuacct/cpuacct.usage": "1500000000"}),
                                             (V2, {"cpu.stat": "usage_usec 1500000"})], ids=["v1", "v2"])  # fmt: skip
def test_the_processor_counts_against_its_quota(
    tmp_path: Path, files: dict[str, str], more: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr("workers.worker.system_load.time.monotonic", lambda: clock[0])
    processor = ProcessorLoad(groups(tmp_path, files))
    groups(tmp_path, more)
    clock[0] += 2
    # It used half a second of the one processor second that two seconds allow.
    assert processor.percent() == 50


@pytest.mark.parametrize("files", [{}, {"memory.max": "max"}, {"memory/memory.limit_in_bytes": str(2**63 - 4096)}])
def test_without_limits_the_machine_is_measured(tmp_path: Path, files: dict[str, str]) -> None:
    root = groups(tmp_path, files)
    assert memory_total_mb(root) == psutil.virtual_memory().total // MB
    assert 0 < memory_used_mb(root) < memory_total_mb(root)
    assert ProcessorLoad(root).percent() >= 0
