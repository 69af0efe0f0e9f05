"""Agent's work that the control plane keeps with a job: a bundle of its commits and a patch, in parts."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final, NotRequired, TypedDict

# As base64, one part fits into a call with room for its other fields.
WORK_PART_BYTES: Final = 384 * 1024
WORK_ARTIFACT: Final = "work"
# A job and its attempt in the name make the branch unique, so nothing is ever written over it.
WIP_BRANCH: Final = "myctobot/wip/{job_id}-{attempt}"


class WorkFile(StrEnum):
    """Files of kept work."""

    BUNDLE = "bundle"  # commits, for git fetch
    PATCH = "patch"  # changes since the base branch, for git apply


class OnFailure(StrEnum):
    """Handling of the work of a job that does not end well."""

    KEEP = "keep"  # the control plane keeps it
    PUSH_WIP = "push_wip"  # it is also pushed to a branch of its own


class KeptFile(TypedDict):
    """Size and digest of a file."""

    bytes: int
    sha256: str


class WorkManifest(TypedDict):
    """Description of kept work; commits are named by their full ids."""

    base: str  # commit of the base branch
    start: str  # commit that the agent started from
    head: str  # commit to push
    branch: str  # name of ``head`` in the bundle
    ready: bool  # the agent ended well, so only the push is missing
    files: dict[str, KeptFile]  # by ``WorkFile``; the patch may be missing
    result: dict[str, Any]  # result of the job, should the push succeed


class StoreWorkRequest(TypedDict):
    """Part of a file, and with the last part the manifest. The same call may be repeated."""

    attempt: int
    file: str
    number: int  # from 0
    data: str  # base64
    manifest: NotRequired[WorkManifest | None]


class StoreWorkAnswer(TypedDict):
    """Answer to a stored part; ``expires_at`` only with the manifest."""

    expires_at: str | None


class ReadWorkRequest(TypedDict):
    """Question for a part of the work that the claim's answer named."""

    attempt: int
    file: str
    number: int


class ReadWorkAnswer(TypedDict):
    """Part of a file."""

    data: str  # base64
