"""Mapping of Proxmox's messages to errors."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from shards.providers.errors import OutOfRoom, ProviderBusy, ProviderError, ProviderRefused, ProviderUnreachable
from shards.providers.proxmox.error_mapping import from_answer, from_text, task_failed
from shards.providers.proxmox.errors import NoSuchContainer, OutcomeUnknown, TaskFailed, VmidTaken


@dataclass
class Answer:
    status_code: int
    content: str = ""
    errors: object = None


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("CT is locked (backup)", ProviderBusy),
        ("can't lock file '/run/lock/lxc/pve-config-104.lock' - got timeout", ProviderBusy),
        ("CT 104 already exists on node 'pve1'", VmidTaken),
        ("unable to create CT 104 - CT 104 already exists on node 'pve2'", VmidTaken),
        ("VM 104 already exists", VmidTaken),
        ("Configuration file 'nodes/pve1/lxc/104.conf' does not exist", NoSuchContainer),
        ("zfs error: cannot create 'rpool/x': out of space", OutOfRoom),
        ("lvcreate: insufficient free space: 10 extents needed, but only 3 available", OutOfRoom),
        ("tar: ./usr: Cannot write: No space left on device", OutOfRoom),
        ("Permission check failed (/vms/104, VM.Audit)", ProviderRefused),
        ("command 'tar' failed: exit code 2", TaskFailed),
        ("volume 'local:vztmpl/x.tar.zst' does not exist", TaskFailed),
    ],
)
def test_a_sentence_is_understood(text: str, kind: type[ProviderError]) -> None:
    found = from_text(text, TaskFailed)
    assert type(found) is kind


@pytest.mark.parametrize(
    ("answer", "method", "kind"),
    [
        (Answer(401, "Authentication failed!"), "GET", ProviderRefused),
        (Answer(403, "Permission check failed (/pool/x, Pool.Audit)"), "GET", ProviderRefused),
        (Answer(502, "Bad Gateway"), "GET", ProviderUnreachable),
        (Answer(595, "Connection refused"), "POST", ProviderUnreachable),
        (Answer(596, "Connection timed out"), "POST", OutcomeUnknown),
        (Answer(504, "Gateway Timeout"), "DELETE", OutcomeUnknown),
        (Answer(500, "CT is locked (snapshot)"), "POST", ProviderBusy),
        (Answer(501, "Method 'GET /x' not implemented"), "GET", ProviderError),
        (Answer(400, "Parameter verification failed.", {"vmid": "VM 104 already exists"}), "GET", VmidTaken),
    ],
)
def test_an_answer_is_understood(answer: Answer, method: str, kind: type[ProviderError]) -> None:
    assert type(from_answer(answer, method, "/x")) is kind


def test_a_refusal_names_privilege_and_path() -> None:
    error = from_answer(
        Answer(403, "Permission check failed (/storage/fast, Datastore.Audit|Datastore.AllocateSpace)"), "GET", "/x"
    )
    assert "lacks Datastore.Audit or Datastore.AllocateSpace on /storage/fast" in str(error)
    assert error.data == {"path": "/storage/fast", "privileges": ["Datastore.Audit", "Datastore.AllocateSpace"]}


def test_parameters_that_are_refused_are_named() -> None:
    error = from_answer(
        Answer(400, "Parameter verification failed.", {"memory": "value must have a minimum"}), "POST", "/x"
    )
    assert "memory: value must have a minimum" in str(error)


def test_the_log_decides_what_kind_of_failure_it_was_and_is_shown() -> None:
    log = ["extracting", "tar: usr: Cannot write: No space left on device", "TASK ERROR: exit code 2"]
    error = task_failed("unpack general", "unable to create CT 104 - exit code 2", log)
    assert type(error) is OutOfRoom
    assert "The task to unpack general failed: unable to create CT 104 - exit code 2; extracting; tar:" in str(error)


@pytest.mark.parametrize("nasty", ["x\n2026-01-01 INFO all is well", "\x1b[2Jx", "x" * 10_000])
def test_messages_of_proxmox_become_one_bounded_line(nasty: str) -> None:
    said = str(from_text(nasty, TaskFailed)) + str(from_answer(Answer(500, nasty), "GET", "/x"))
    plain = str(from_answer(Answer(500, nasty), "GET", "/x"))
    assert plain.isprintable()
    assert len(said) < 12_000
