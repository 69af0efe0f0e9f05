from __future__ import annotations

from pathlib import Path

import pytest

from workers.sandbox.disk_image import image_mounts, probe
from workers.sandbox.limits import ResourceLimits

MOUNTS = """\
29 1 254:0 / / rw,relatime - ext4 /dev/vda rw
90 29 7:0 / /srv/my\\040jobs/job_abc.1 rw,nosuid,nodev - ext4 /dev/loop0 rw
91 29 7:1 / /srv/my\\040jobs/image-check-x1 rw - ext4 /dev/loop1 rw
92 29 7:2 / /srv/my\\040jobs/precious rw - ext4 /dev/loop2 rw
93 29 7:3 / /srv/my\\040jobs/job_abc.1/agent/job_x.1 rw - ext4 /dev/loop3 rw
94 29 254:1 / /srv/my\\040jobs/job_disk.1 rw - ext4 /dev/vdb rw
95 29 0:30 / /srv/my\\040jobs/job_memory.1 rw - tmpfs none rw
96 29 7:4 / /srv/job_abc.1 rw - ext4 /dev/loop4 rw
"""


def test_only_images_of_jobs_directly_below_the_folder_are_leftovers() -> None:
    assert image_mounts(MOUNTS, "/srv/my jobs") == ["/srv/my jobs/job_abc.1", "/srv/my jobs/image-check-x1"]


def test_an_ordinary_user_has_no_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1234)
    assert probe(tmp_path, tmp_path, ResourceLimits()) == "only root can mount a disk image"


def test_a_machine_without_loop_devices_has_no_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("workers.sandbox.disk_image.LOOP_CONTROL", tmp_path / "missing")
    assert probe(tmp_path, tmp_path, ResourceLimits()).startswith("this machine has no loop devices")
