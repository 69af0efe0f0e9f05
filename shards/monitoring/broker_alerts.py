"""Alerts about shards that the broker refuses."""

from __future__ import annotations

from typing import Final

from myctobot.contract.shards import BrokerProblem
from shards.monitoring.alerts import alert

_REFUSED: Final = {
    BrokerProblem.LOGIN: (
        "refuses the login of its user: it is gone, or `config.json` of the shard has another password. Recycle "
        "the shard, or enrol its machine again."
    ),
    BrokerProblem.QUEUES: (
        "does not let its user read the queues that its worker consumes. `manage.py broker_access reconcile` corrects "
        "the rights."
    ),
}


def alert_refused_by_broker(shard: str, problem: BrokerProblem) -> None:
    """Alert operators that a shard takes no jobs, at the first report of it.

    The key is the same for all of a shard's alerts, so a shard that lies causes one message in ten minutes.
    """
    text = f"Shard {shard} sends heartbeats and takes no jobs: for a minute, the broker {_REFUSED[problem]}"
    alert("shard.broker_refused", f"The broker refuses shard {shard}", text, key=f"shard.broker_refused {shard}")
