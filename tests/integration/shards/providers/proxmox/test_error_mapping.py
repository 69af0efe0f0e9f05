"""Faults of Proxmox: errors are clear, and no unknown container is left."""

from __future__ import annotations

import re
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest

from shards.providers.base import ContainerSpec, ContainerState, NullJournal
from shards.providers.errors import (
    OutOfRoom,
    ProviderBusy,
    ProviderError,
    ProviderRefused,
    ProviderUnreachable,
)
from shards.providers.proxmox.errors import NotTrusted, TaskFailed
from shards.providers.proxmox.naming import Ref
from shards.providers.proxmox.provider import ProxmoxProvider
from shards.providers.proxmox.storage_lock import database_lock
from shards.providers.proxmox.tasks import TaskTimeout
from tests.fixtures.proxmox.certificates import make_certificates
from tests.fixtures.proxmox.driven import SPEC, Book, book, provider, provider_for, standin
from tests.fixtures.proxmox.server import StandIn, fingerprint, stand_in

__all__ = ["book", "provider", "standin"]

ARCHIVED = replace(SPEC, image="debian")


def only_the_template_is_there(standin: StandIn) -> bool:
    return set(standin.world.containers) == {9000} and not standin.world.containers[9000].config.get("lock")


def test_a_number_that_others_take_is_skipped(standin: StandIn, provider: ProxmoxProvider) -> None:
    standin.world.faults.steal = 2
    book = Book()
    ref = provider.create(SPEC, book)
    assert [Ref.of(one).vmid for one in book.refs] == [100, 101, 102]
    assert book.refs[-1] == ref
    assert standin.asked("DELETE", r"/lxc/\d+$") == []


def test_it_does_not_try_for_ever(standin: StandIn, provider: ProxmoxProvider) -> None:
    standin.world.faults.steal = 1000
    with pytest.raises(ProviderBusy, match="Other clients took every number"):
        provider.create(ARCHIVED, NullJournal())


@pytest.mark.parametrize("spec", [SPEC, ARCHIVED], ids=["clone", "archive"])
def test_a_full_storage_is_said_and_leaves_nothing(
    standin: StandIn, provider: ProxmoxProvider, spec: ContainerSpec
) -> None:
    standin.world.storages["local-zfs"].total_mb = 2600
    with pytest.raises(OutOfRoom, match=r"out of space on storage 'local-zfs'.*Nothing is left of it"):
        provider.create(spec, NullJournal())
    assert only_the_template_is_there(standin)


@pytest.mark.parametrize(
    ("kind", "image"), [("vzcreate", "debian"), ("vzclone", "general"), ("resize", "general"), ("vzsnapshot", "debian")]
)
def test_a_task_that_fails_half_way_tells_its_log_and_leaves_nothing(standin: StandIn, kind: str, image: str) -> None:
    standin.world.faults.tasks[kind] = "fail"
    with pytest.raises(TaskFailed, match=r"'tar xpf -' failed: exit code 2.*Nothing is left of it\.") as caught:
        provider_for(standin).create(replace(SPEC, image=image), NullJournal())
    assert caught.value.http_status == 502
    assert only_the_template_is_there(standin)


def test_leftovers_of_proxmox_are_named(standin: StandIn, book: Book) -> None:
    standin.world.faults.tasks["vzcreate"] = "dirty"
    with pytest.raises(TaskFailed, match=r"container 100 on pve1 is left.*pct unlock 100 && pct destroy 100"):
        provider_for(standin).create(ARCHIVED, book)
    assert [Ref.of(ref).vmid for ref in book.refs] == [100]
    assert provider_for(standin).status(book.refs[0]).state is ContainerState.OTHER


def test_a_failed_clean_up_is_reported_with_the_reference(standin: StandIn, book: Book) -> None:
    standin.world.faults.tasks.update(vzsnapshot="fail", vzdestroy="fail")
    with pytest.raises(
        TaskFailed, match=r"snapshot clean failed.*It is not known if .* is removed: The task to destroy 100 failed"
    ) as caught:
        provider_for(standin).create(SPEC, book)
    assert book.refs[0] in str(caught.value)
    assert [found.ref for found in provider_for(standin).list()] == book.refs


def test_a_task_that_never_ends_is_stopped(standin: StandIn) -> None:
    standin.world.faults.tasks["vzclone"] = "never"
    with pytest.raises(TaskTimeout, match=r"within 1 s; it was asked to stop.*Nothing is left of it") as caught:
        provider_for(standin, task_timeout_s=1).create(SPEC, NullJournal())
    assert caught.value.retryable
    assert only_the_template_is_there(standin)


def test_a_task_that_cannot_be_stopped_leaves_its_container_named(standin: StandIn, book: Book) -> None:
    standin.world.faults.tasks["vzcreate"] = "stuck"
    with pytest.raises(TaskTimeout, match="container 100 on pve1 is left"):
        provider_for(standin, task_timeout_s=1).create(ARCHIVED, book)
    assert len(book.refs) == 1


@pytest.mark.parametrize("how", ["hang", "after", "596 Connection timed out"])
@pytest.mark.parametrize("image", ["general", "debian"])
def test_no_answer_is_not_taken_for_a_no(standin: StandIn, how: str, image: str, book: Book) -> None:
    path = r"/clone$" if image == "general" else r"/lxc$"
    standin.upset("POST", path, "after" if how.startswith("596") else how)
    # Short enough for the call that hangs, and long enough for the others on a busy machine.
    standin.hang_s = 5
    ref = provider_for(standin, call_timeout_s=3).create(replace(SPEC, image=image), book)
    assert book.refs == [ref]
    assert len(standin.world.containers) == 2


def test_a_request_that_never_arrived_created_nothing(standin: StandIn, book: Book) -> None:
    standin.upset("POST", "/clone$", "before")
    with pytest.raises(ProviderUnreachable, match=r"closed the connection.*Nothing was created\."):
        # The request for the state may be slow on a busy machine; it must not use up the time of the task.
        provider_for(standin, task_timeout_s=60).create(SPEC, book)
    assert only_the_template_is_there(standin)


def test_the_api_may_be_away_while_a_task_goes_on(standin: StandIn, provider: ProxmoxProvider) -> None:
    standin.upset("GET", "/tasks/.*/status$", "595 Connection refused", times=4)
    assert provider.create(SPEC, NullJournal())


def test_a_snapshot_without_an_answer_fails_the_whole(standin: StandIn) -> None:
    standin.upset("POST", "/snapshot$", "after")
    with pytest.raises(ProviderUnreachable, match="Nothing is left of it"):
        provider_for(standin).create(SPEC, NullJournal())
    assert only_the_template_is_there(standin)


@pytest.mark.parametrize("verb", ["start", "stop", "destroy"])
def test_a_lost_answer_is_followed_by_a_check(standin: StandIn, provider: ProxmoxProvider, verb: str) -> None:
    ref = provider.create(SPEC, NullJournal())
    if verb == "stop":
        provider.start(ref, NullJournal())
    standin.upset("DELETE" if verb == "destroy" else "POST", r"/status/|/lxc/\d+$", "after")
    getattr(provider, verb)(ref, NullJournal())
    wanted = {"start": ContainerState.RUNNING, "stop": ContainerState.STOPPED, "destroy": ContainerState.GONE}
    assert provider.status(ref).state is wanted[verb]


@pytest.mark.parametrize("verb", ["start", "destroy"])
def test_a_locked_container_is_busy(standin: StandIn, provider: ProxmoxProvider, verb: str) -> None:
    ref = provider.create(SPEC, NullJournal())
    standin.world.containers[Ref.of(ref).vmid].config["lock"] = "backup"
    with pytest.raises(ProviderBusy, match=r"CT is locked \(backup\)") as caught:
        getattr(provider, verb)(ref, NullJournal())
    assert caught.value.retryable
    assert provider.status(ref).detail == "locked: backup"


def test_a_template_that_is_being_backed_up_is_busy(standin: StandIn, provider: ProxmoxProvider) -> None:
    standin.world.containers[9000].config["lock"] = "backup"
    with pytest.raises(ProviderBusy):
        provider.create(SPEC, NullJournal())


def test_a_container_that_does_not_shut_down_is_stopped_by_force(
    standin: StandIn, provider: ProxmoxProvider, book: Book
) -> None:
    ref = provider.create(SPEC, NullJournal())
    provider.start(ref, NullJournal())
    standin.world.faults.tasks["vzshutdown"] = "fail"
    provider.stop(ref, book)
    assert provider.status(ref).state is ContainerState.STOPPED
    assert any("by force" in step for step in book.steps)


def test_a_wrong_token_is_reported(standin: StandIn) -> None:
    with pytest.raises(ProviderRefused, match="does not accept the token: check PROXMOX_TOKEN_ID"):
        provider_for(standin, token_secret="00000000-0000-0000-0000-000000000000").list()


@pytest.mark.parametrize(
    ("path", "privilege"),
    [
        ("/pool/shards", "VM.Config.Memory"),
        ("/storage/local-zfs", "Datastore.AllocateSpace"),
        ("/sdn/zones/localnetwork/vmbr1", "SDN.Use"),
    ],
)
def test_a_missing_right_is_named_with_its_place(standin: StandIn, path: str, privilege: str) -> None:
    standin.world.rights.token[path].discard(privilege)
    with pytest.raises(ProviderRefused, match=rf"lacks {re.escape(privilege)} on \S+") as caught:
        provider_for(standin).create(ARCHIVED, NullJournal())
    assert privilege in caught.value.data["privileges"]
    assert only_the_template_is_there(standin)


def test_the_rights_of_the_user_bound_those_of_the_token(standin: StandIn) -> None:
    standin.world.rights.user["/pool/shards"].discard("VM.PowerMgmt")
    assert any("VM.PowerMgmt on /pool/shards" in problem for problem in provider_for(standin).problems())


@pytest.mark.parametrize("lost", ["Pool.Audit", "VM.Audit"])
def test_without_sight_there_is_no_list_rather_than_an_empty_one(standin: StandIn, lost: str) -> None:
    provider_for(standin).create(SPEC, NullJournal())
    standin.world.rights.token["/pool/shards"].discard(lost)
    with pytest.raises(ProviderRefused, match=f"lacks {re.escape(lost)} on /pool/shards"):
        provider_for(standin).list()


def test_a_token_without_rights_differs_from_an_empty_pool(standin: StandIn) -> None:
    assert provider_for(standin).list() == []
    standin.world.rights.token.clear()
    with pytest.raises(ProviderRefused, match="lacks"):
        provider_for(standin).list()


def test_without_sight_a_container_is_not_called_gone(standin: StandIn, provider: ProxmoxProvider) -> None:
    ref = provider.create(SPEC, NullJournal())
    standin.world.rights.token["/pool/shards"].discard("Pool.Audit")
    with pytest.raises(ProviderRefused):
        provider.status(ref)


@pytest.mark.parametrize("status", ["502 Bad Gateway", "595 Connection refused", "599 Too many redirections"])
def test_a_gateway_that_gives_up_is_a_reason_to_try_again(standin: StandIn, status: str) -> None:
    standin.upset("GET", "/pools$", status)
    with pytest.raises(ProviderUnreachable, match=status[:3]) as caught:
        provider_for(standin).status("pve1/100/0123456789abcdef")
    assert caught.value.retryable


def test_a_connection_that_hangs_ends_in_time(standin: StandIn) -> None:
    standin.upset("GET", "/version$", "hang")
    begun = time.monotonic()
    with pytest.raises(ProviderUnreachable, match="did not answer in time"):
        provider_for(standin, call_timeout_s=1).release()
    assert time.monotonic() - begun < 2.5


def test_a_closed_port_of_proxmox_is_reported(standin: StandIn) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(ProviderUnreachable, match=rf"Proxmox at localhost:{port} cannot be reached"):
        provider_for(standin, url=f"https://localhost:{port}").release()


@pytest.mark.parametrize(("how", "said"), [("html", "not JSON"), ("redirect", "a redirect")])
def test_an_address_that_is_not_the_api_is_reported(standin: StandIn, how: str, said: str) -> None:
    standin.upset("GET", "/version$", how)
    with pytest.raises(ProviderError, match=said):
        provider_for(standin).release()
    assert len(standin.requests) == 0


def test_a_certificate_of_an_unknown_authority_is_refused(standin: StandIn, tmp_path: Path) -> None:
    other = make_certificates(tmp_path / "other")
    for ca_file in ("", str(other.authority)):
        with pytest.raises(NotTrusted, match="Set PROXMOX_CA_FILE to its authority"):
            provider_for(standin, ca_file=ca_file).release()
    assert standin.requests == []


def test_a_certificate_for_another_name_is_refused(tmp_path: Path) -> None:
    with stand_in(tmp_path, name="pve.example") as other, pytest.raises(NotTrusted, match="for another name"):
        provider_for(other).release()


def test_a_fingerprint_is_trust_enough_and_a_wrong_one_is_none(standin: StandIn) -> None:
    right = fingerprint(standin.certificates.server)
    assert provider_for(standin, ca_file="", fingerprint=right).release() == "9.1"
    with pytest.raises(NotTrusted, match="another fingerprint than PROXMOX_FINGERPRINT"):
        provider_for(standin, ca_file="", fingerprint=right[3:] + right[2:3] + "00").release()


def test_a_missing_ca_file_is_reported(standin: StandIn) -> None:
    assert "PROXMOX_CA_FILE" in provider_for(standin, ca_file="/nonexistent/ca.pem").problems()[0]


def test_neither_proxies_nor_authorities_of_the_environment_count(
    standin: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert provider_for(standin).release() == "9.1"
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, str(standin.certificates.authority))
    with pytest.raises(NotTrusted):
        provider_for(standin, ca_file="").release()


@pytest.mark.django_db(transaction=True)
def test_a_created_container_survives_the_loss_of_the_database() -> None:
    from django.db import connection  # needs the settings

    with database_lock("fast", 1):
        assert connection.connection is not None
        connection.connection.close()
    with database_lock("fast", 1):
        pass
