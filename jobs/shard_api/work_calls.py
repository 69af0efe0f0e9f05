"""Validation of the calls of runners about kept work, ``/shard/v1/jobs/{id}/artifacts/work``."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Final

from django.conf import settings

from jobs.attempts import work
from jobs.attempts.fencing import SecretlessAttempts
from jobs.shard_api.runner_calls import claim_token_of, read_attempt
from myctobot.contract.limits import MAX_BRANCH_LENGTH, MAX_EVENT_BYTES
from myctobot.contract.work import (
    WORK_PART_BYTES,
    KeptFile,
    ReadWorkAnswer,
    ReadWorkRequest,
    StoreWorkAnswer,
    StoreWorkRequest,
    WorkFile,
    WorkManifest,
)
from shards.shard_api.call import ShardCall
from shards.shard_api.validation import MAX_INTEGER, FieldReader, read_fields

_FILES: Final = frozenset(file.value for file in WorkFile)
# Names of SHA-1 and SHA-256 commits, and digests of files.
_HEX: Final = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_MAX_ENCODED: Final = 4 * (WORK_PART_BYTES // 3 + 1)


def store_work(call: ShardCall, job_id: str, known: SecretlessAttempts) -> StoreWorkAnswer:
    with read_fields(call.json()) as sent:
        file, number = _place(sent)
        encoded = sent.text("data", _MAX_ENCODED, minimum=0)
        request = StoreWorkRequest(attempt=read_attempt(sent), file=file, number=number, data=encoded)
        data = _decode(sent, encoded)
        if sent.has("manifest"):
            request["manifest"] = _manifest(sent.nested("manifest"))
    return work.store_work(call.key_hash, job_id, claim_token_of(call), request, data)


def read_work(call: ShardCall, job_id: str, known: SecretlessAttempts) -> ReadWorkAnswer:
    with read_fields(call.json()) as sent:
        file, number = _place(sent)
        request = ReadWorkRequest(attempt=read_attempt(sent), file=file, number=number)
    return work.read_work(call.key_hash, job_id, claim_token_of(call), request)


def _place(sent: FieldReader) -> tuple[str, int]:
    most = settings.WORK_MAX_MB * 2**20 // WORK_PART_BYTES + 1
    return sent.one_of("file", _FILES), sent.integer("number", 0, most)


def _decode(sent: FieldReader, encoded: str) -> bytes:
    try:
        data = base64.b64decode(encoded.encode(), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        sent.add_error("data", "Must be base64.")
        return b""
    if len(data) > WORK_PART_BYTES:
        sent.add_error("data", f"Has {len(data)} bytes; a part has at most {WORK_PART_BYTES}.")
    return data


def _manifest(sent: FieldReader) -> WorkManifest:
    files = sent.nested("files")
    manifest = WorkManifest(
        base=_commit(sent, "base"),
        start=_commit(sent, "start"),
        head=_commit(sent, "head"),
        branch=sent.text("branch", MAX_BRANCH_LENGTH),
        ready=sent.boolean("ready"),
        files={name: _file(files.nested(name)) for name in sorted(_FILES) if files.has(name)},
        result=sent.object("result"),
    )
    if WorkFile.BUNDLE.value not in manifest["files"]:
        sent.add_error("files", "The bundle is missing.")
    if len(json.dumps(manifest["result"])) > MAX_EVENT_BYTES:
        sent.add_error("result", f"Has more than {MAX_EVENT_BYTES} bytes.")
    return manifest


def _file(sent: FieldReader) -> KeptFile:
    return KeptFile(bytes=sent.integer("bytes", 0, MAX_INTEGER), sha256=_commit(sent, "sha256"))


def _commit(sent: FieldReader, name: str) -> str:
    value = sent.text(name, 64)
    if not _HEX.fullmatch(value):
        sent.add_error(name, "Must be 40 or 64 hexadecimal digits.")
    return value
