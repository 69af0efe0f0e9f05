"""A real worker runs with its shard's broker user without a refused command."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import pytest

from myctobot.lib.crypto import digest
from shards.broker_access import redis_acl
from shards.broker_access.acl_rules import BrokerAccount
from tests.fixtures.broker import PASSWORD, QUEUES, ControlStandIn, LimitedWorker, Operator, eventually, job_named

pytestmark = pytest.mark.needs("a redis of 7.0 or newer")
HASH = digest(PASSWORD)


def deliver(operator: Operator, control: ControlStandIn, queue: str, job_id: str) -> None:
    operator.send(queue, job_id)
    eventually(lambda: job_id in control.claimed, f"no worker took {job_id} from {queue}")


def heard(control: ControlStandIn) -> None:
    """Wait until the worker has received and applied the present orders."""
    before = control.heartbeats
    eventually(lambda: control.heartbeats > before + 1, "no heartbeat")


def refusal(control: ControlStandIn) -> str | None:
    """Return the refusal of the broker in the worker's latest heartbeat."""
    found: str | None = control.reports[-1].get("broker_problem")
    return found


def test_it_takes_jobs_from_both_queues_and_answers(
    worker: LimitedWorker, operator: Operator, control: ControlStandIn
) -> None:
    for queue in QUEUES:
        deliver(operator, control, queue, job_named(queue[:3]))
    assert operator.ask("ping") == {"ok": "pong"}
    assert operator.ask("capabilities")["shard"] == "s1"
    assert any("takes jobs from cap.git" in line for line in operator.ask("tail_log", lines=20))
    assert operator.ask("cancel", job_id="job_x") == {"ok": "woke 0 runner(s)"}
    assert operator.refusals() == []


def test_it_shows_in_celerys_events(worker: LimitedWorker, operator: Operator, control: ControlStandIn) -> None:
    seen: list[tuple[str, str]] = []

    def note(event: dict[str, Any]) -> None:
        seen.append((event["type"], event["hostname"]))

    with operator.app.connection_for_read() as connection:
        receiver = operator.app.events.Receiver(connection, handlers={"*": note})
        capture = threading.Thread(target=receiver.capture, kwargs={"wakeup": False})
        capture.start()
        eventually(lambda: any(kind == "worker-heartbeat" for kind, _ in seen), "it does not say that it lives")
        deliver(operator, control, "cap.git", job_named("seen"))
        eventually(lambda: {"task-started", "task-succeeded"} <= {kind for kind, _ in seen}, f"only {seen}")
        receiver.should_stop = True
        capture.join()
    assert all(host.startswith("shard-s1@") for _, host in seen)
    assert operator.refusals() == []


def test_it_comes_back_when_its_connections_are_ended(
    worker: LimitedWorker, operator: Operator, control: ControlStandIn
) -> None:
    assert operator.redis.execute_command("CLIENT", "KILL", "USER", "shard-s1") >= 2
    deliver(operator, control, "shard.s1", job_named("after"))
    eventually(lambda: operator.ask("ping") == {"ok": "pong"}, "it does not hear control commands")
    assert operator.refusals() == []


def test_it_does_not_notice_that_its_rights_are_given_again(
    worker: LimitedWorker, operator: Operator, control: ControlStandIn
) -> None:
    connections = {one["id"] for one in operator.redis.client_list() if one["user"] == "shard-s1"}
    redis_acl.grant("s1", QUEUES, HASH)
    assert not redis_acl.reconcile([BrokerAccount("s1", QUEUES, HASH)])
    deliver(operator, control, "cap.git", job_named("still"))
    assert operator.ask("ping") == {"ok": "pong"}
    assert {one["id"] for one in operator.redis.client_list() if one["user"] == "shard-s1"} >= connections


def test_it_changes_its_class(worker: LimitedWorker, operator: Operator, control: ControlStandIn) -> None:
    queues = ["cap.filesystem+git@premium", "shard.s1"]
    redis_acl.grant("s1", queues, HASH)
    control.queues = queues
    deliver(operator, control, queues[0], job_named("new"))
    heard(control)
    operator.redis.delete("myctobot:broker-access:leaving:s1")
    assert redis_acl.reconcile([BrokerAccount("s1", queues, HASH)]).changed == ("s1",)
    deliver(operator, control, queues[0], job_named("newer"))
    assert operator.refusals() == []
    assert redis_acl.listed()["s1"].queues == set(queues)


def test_it_is_drained_and_comes_back(worker: LimitedWorker, operator: Operator, control: ControlStandIn) -> None:
    control.orders = ["drain"]
    eventually(lambda: "no queue: draining" in worker.said(), "it does not drain")
    # No message is in transit by then.
    time.sleep(1.5)
    operator.send("cap.git", job_named("late"))
    heard(control)
    assert job_named("late") not in control.claimed
    control.orders = []
    eventually(lambda: job_named("late") in control.claimed, "it does not come back")
    assert operator.refusals() == []


def test_a_message_that_arrives_while_it_leaves_a_queue_is_executed(
    worker: LimitedWorker, operator: Operator, control: ControlStandIn
) -> None:
    control.orders = ["drain"]
    sent: list[str] = []
    # The last message that it takes was sent shortly before the end.
    while "no queue: draining" not in worker.said():
        sent.append(job_named(len(sent)))
        operator.send("cap.git", sent[-1])
        time.sleep(0.02)
    heard(control)
    taken = len(sent) - operator.redis.llen("cap.git")
    # A runner claims seconds after the worker took its message on a busy machine.
    eventually(lambda: len(set(control.claimed)) == taken, f"{taken} were taken, and claimed {control.claimed}")
    assert operator.refusals() == []


def test_on_sigterm_it_loses_no_message(worker: LimitedWorker, operator: Operator, control: ControlStandIn) -> None:
    sent = [job_named(number) for number in range(60)]
    for job_id in sent:
        operator.send("cap.git", job_id)
    eventually(lambda: len(control.claimed) > 5, "it takes nothing")
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(30) == 0
    assert len(set(control.claimed)) + operator.redis.llen("cap.git") == len(sent)
    assert operator.refusals() == []


def test_on_sighup_it_restarts_and_loses_no_message(
    worker: LimitedWorker, operator: Operator, control: ControlStandIn
) -> None:
    os.kill(worker.process.pid, signal.SIGHUP)
    # Messages arrive before, during and after the restart, and each needs the CPU of a runner.
    sent = [job_named(number) for number in range(12)]
    for job_id in sent:
        operator.send("cap.git", job_id)
        time.sleep(0.125)
    eventually(lambda: set(control.claimed) == set(sent), f"claimed {control.claimed}")
    assert worker.said().count("ready.") == 2
    assert operator.refusals() == []


def test_a_user_that_is_gone_for_a_while_ends_no_worker(
    worker: LimitedWorker, operator: Operator, control: ControlStandIn
) -> None:
    redis_acl.revoke("s1")
    eventually(lambda: "Cannot connect" in worker.said(), "it does not notice")
    eventually(lambda: refusal(control) == "login_refused", "its heartbeats do not say so")
    redis_acl.grant("s1", QUEUES, HASH)
    deliver(operator, control, "cap.git", job_named("again"))
    eventually(lambda: refusal(control) is None, "its heartbeats do not say that it is over")


def test_rights_that_are_gone_for_a_while_end_no_worker(
    worker: LimitedWorker, operator: Operator, control: ControlStandIn
) -> None:
    redis_acl.reconcile([BrokerAccount("s1", ["cap.other"], HASH)])
    eventually(lambda: "does not allow this shard to read its queues" in worker.said(), "it does not notice")
    time.sleep(2)
    assert worker.said().count("does not allow this shard to read") == 1
    eventually(lambda: refusal(control) == "queues_refused", "its heartbeats do not say so")
    redis_acl.grant("s1", QUEUES, HASH)
    deliver(operator, control, "cap.git", job_named("again"))
    eventually(lambda: refusal(control) is None, "its heartbeats do not say that it is over")
