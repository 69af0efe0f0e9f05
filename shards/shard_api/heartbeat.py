"""``/shard/v1/heartbeat``: report of a shard's worker every 5 s."""

from __future__ import annotations

from typing import Final

from myctobot.contract.messages import DropReason
from myctobot.contract.shards import BrokerProblem, EnforcedLimits, HeartbeatRequest, IsolationKind, JobNetwork
from shards.shard_api.call import ShardCall
from shards.shard_api.validation import MAX_INTEGER, FieldReader, read_fields, text_problem

_MAX_MB: Final = 2**40
_MAX_PERCENT: Final = 100_000
_MAX_VERSIONS: Final = 20
_MAX_NAME: Final = 60
_ENFORCEMENTS: Final = ("control_group", "watchdog", "user", "none")
_DISK_ENFORCEMENTS: Final = ("image", "watchdog")


_MAX_RUNNERS: Final = 64


def read_report(call: ShardCall) -> HeartbeatRequest:
    """Check a shard's report and limit its size; see ``HeartbeatRequest``."""
    with read_fields(call.json()) as sent:
        versions = sent.object("versions")
        named = len(versions) <= _MAX_VERSIONS and all(len(name) <= _MAX_NAME for name in versions)
        if not named or any(text_problem(value, 100) for value in versions.values()):
            sent.add_error(
                "versions",
                f"Must have at most {_MAX_VERSIONS} entries: names of at most {_MAX_NAME} characters, "
                "values of at most 100.",
            )
        report = HeartbeatRequest(
            version=sent.text("version", 40),
            capabilities=sent.texts("capabilities", 40, 40),
            slots=sent.integer("slots", 1, 64),
            running=sent.texts("running", _MAX_RUNNERS, 60),
            cpu_percent=sent.number("cpu_percent", 0, _MAX_PERCENT),
            memory_mb=sent.integer("memory_mb", 0, _MAX_MB),
            memory_total_mb=sent.integer("memory_total_mb", 0, _MAX_MB),
            disk_free_mb=sent.integer("disk_free_mb", 0, _MAX_MB),
            versions=versions,
        )
        # Workers of earlier releases send none of these.
        if sent.has("isolation"):
            report["isolation"] = sent.one_of("isolation", list(IsolationKind))
        if sent.has("sandbox_problem"):
            report["sandbox_problem"] = sent.text("sandbox_problem", 400)
        if sent.has("limits"):
            limits = sent.nested("limits")
            report["limits"] = EnforcedLimits(
                memory=limits.one_of("memory", _ENFORCEMENTS), processes=limits.one_of("processes", _ENFORCEMENTS)
            )
            if limits.has("disk"):
                report["limits"]["disk"] = limits.one_of("disk", _DISK_ENFORCEMENTS)
        if sent.has("network"):
            report["network"] = sent.one_of("network", list(JobNetwork))
        if sent.has("dropped_messages"):
            report["dropped_messages"] = _dropped_messages(sent)
        if sent.has("ended"):
            report["ended"] = sent.texts("ended", _MAX_RUNNERS, 60)
        if sent.has("broker_problem"):
            report["broker_problem"] = sent.one_of("broker_problem", list(BrokerProblem))
    return report


def _dropped_messages(sent: FieldReader) -> dict[str, int]:
    counts = sent.nested("dropped_messages")
    return {str(reason): counts.integer(reason, 0, MAX_INTEGER) for reason in DropReason if counts.has(reason)}
