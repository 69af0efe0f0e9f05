"""Django's backend for PostgreSQL, whose pool gives out no dead connection and recovers soon after an outage.

The pool's own check costs a round trip for each request, and a pause of a second after each dead connection.
"""

from __future__ import annotations

from typing import Any, Final

from django.db.backends.postgresql import base

from myctobot.lib.postgres.connection import PATIENT_S, PlanKeepingConnection

# During a longer outage, a caller gets its answer soon.
IMPATIENT_S: Final = 1.0


class DatabaseWrapper(base.DatabaseWrapper):
    """Connection of a thread."""

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Return a connection whose server process exists."""
        pool = self.pool
        if pool is None:
            return super().get_new_connection(conn_params)
        # After a restart, each connection of the pool is dead, and the pool opens another one for each.
        for _ in range(pool.max_size + 1):
            is_long_outage = PlanKeepingConnection.unreachable_for_s() > PATIENT_S
            pool.timeout = IMPATIENT_S if is_long_outage else PATIENT_S
            opened = super().get_new_connection(conn_params)
            if not isinstance(opened, PlanKeepingConnection) or opened.is_alive():
                break
            opened.close()
            pool.putconn(opened)
        return opened
