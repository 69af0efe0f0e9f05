"""Kept work of jobs, stored as runners store it."""

from __future__ import annotations

import base64
from typing import Any

from jobs.models import Job
from myctobot.contract.runner import CLAIM_HEADER
from myctobot.tenants.models import Tenant
from tests.factories.control_plane import Answer, Runner, fresh, running_job

BASE, HEAD, DIGEST = "a" * 40, "b" * 40, "c" * 64
BUNDLE = b"# v2 git bundle\ncanary-of-the-bundle"
PATCH = b"--- a/x\n+++ b/x\n<script>alert(1)</script>\n"
PUSH_DENIED = {"code": "push_denied", "message": "The server refused the branch.", "retryable": False}


def manifest(ready: bool = True, size: int = len(BUNDLE), **changes: Any) -> dict[str, Any]:
    facts = {"base": BASE, "start": BASE, "head": HEAD, "branch": "feature/ai", "ready": ready}
    files = {"bundle": {"bytes": size, "sha256": DIGEST}}
    return {**facts, "files": files, "result": {"summary": "Done.", "usage": {"turns": 3}}, **changes}


def store(runner: Runner, part: bytes = BUNDLE, place: int = 0, **changes: Any) -> Answer:
    """Store a part of the bundle, unless ``changes`` name another file."""
    data = base64.b64encode(part).decode()
    body = {"attempt": runner.attempt, "file": "bundle", "number": place, "data": data, **changes}
    path = f"/jobs/{runner.job.public_id}/artifacts/work"
    return runner.send("put", path, body, **{CLAIM_HEADER: runner.token})


def read(runner: Runner, number: int = 0, **changes: Any) -> Answer:
    body = {"attempt": runner.attempt, "file": "bundle", "number": number, **changes}
    return runner.post(f"/jobs/{runner.job.public_id}/artifacts/work", body, **{CLAIM_HEADER: runner.token})


def job_with_work(tenant: Tenant, key: str, *, ready: bool = True, **changes: Any) -> Job:
    """Return a job whose push was refused, with a bundle and a patch."""
    job, runner = running_job(tenant, key, **changes)
    files = {
        "bundle": {"bytes": len(BUNDLE), "sha256": DIGEST},
        "patch": {"bytes": len(PATCH), "sha256": DIGEST},
    }
    assert store(runner).status_code == 200
    assert store(runner, PATCH, file="patch", manifest=manifest(ready, files=files)).status_code == 200
    runner.finish("failed", error=PUSH_DENIED)
    return fresh(job)
