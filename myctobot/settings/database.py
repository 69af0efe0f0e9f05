"""Connections to the database, and the limits on their statements."""

from __future__ import annotations

from typing import Any

from myctobot.env import env, whole_number
from myctobot.lib.postgres.connection import PATIENT_S, RECONNECT_S, PlanKeepingConnection

# Requests run in threads, so each process has a pool of connections.
DATABASE_POOL_SIZE: int = env.int("DATABASE_POOL_SIZE", default=24)
# Limits on each statement, in seconds. Web and gateway have the first one, and commands have none.
STATEMENT_TIMEOUT_S = whole_number("STATEMENT_TIMEOUT_S", 30, minimum=1)
# A runner waits ten seconds for the shard API.
SHARD_STATEMENT_TIMEOUT_S = whole_number("SHARD_STATEMENT_TIMEOUT_S", 10, minimum=1)
WORKER_STATEMENT_TIMEOUT_S = whole_number("WORKER_STATEMENT_TIMEOUT_S", 60, minimum=1)


def read_database() -> dict[str, Any]:
    """Read the database's address, and return Django's settings for it."""
    database: dict[str, Any] = dict(env.db("DATABASE_URL", default="postgresql://127.0.0.1/myctobot"))
    database["ENGINE"] = "myctobot.lib.postgres"
    database["OPTIONS"] = {
        **database.get("OPTIONS", {}),
        "pool": {
            "min_size": 1,
            "max_size": DATABASE_POOL_SIZE,
            "timeout": PATIENT_S,
            "reconnect_timeout": RECONNECT_S,
            "connection_class": PlanKeepingConnection,
        },
        "connect_timeout": 5,
        # Django disables prepared statements. This threshold keeps only those that request it (``lib.sql``).
        "prepare_threshold": 2**31,
    }
    return database
