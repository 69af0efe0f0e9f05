"""``/shard/v1/heartbeat``: the shard's report is stored, and attempts whose runners ended without a report are lost."""

from __future__ import annotations

from jobs.lifecycle.dead_runners import lose_ended
from myctobot.contract.shards import HeartbeatAnswer
from shards.health.heartbeats import heartbeat
from shards.shard_api.call import ShardCall
from shards.shard_api.heartbeat import read_report


def receive_heartbeat(call: ShardCall) -> HeartbeatAnswer:
    """Store a shard's report, and give up the attempts whose runners its worker found dead."""
    report = read_report(call)
    ended = report.pop("ended", [])
    answer = heartbeat(call.key_hash, report)
    if ended:
        lose_ended(call.key_hash, ended)
    return answer
