"""Checks of the machine before the stack starts. One that fails stops the start, unless the caller accepts less."""

from __future__ import annotations

from typing import Final

from myctobot.stack.errors import ServiceFailed, StackError
from myctobot.stack.plan import Plan
from myctobot.stack.supervisor import Supervisor

CHECK_TIMEOUT_S: Final = 60
NO_SANDBOX: Final = (
    "This machine cannot isolate agents, so the stack does not start. Install the package bubblewrap. To accept jobs "
    "that can read and change everything that you can, pass --allow-unsandboxed "
    "(make up UP=--allow-unsandboxed, or DEMO_ALLOW_UNSANDBOXED=1 make demo)."
)
NO_USERS: Final = (
    "The programs of the stack cannot run as users of their own, so the stack does not start. Either every user may "
    "read the checkout and Python (chmod -R go+rX) and enter the folders above them and above MYCTOBOT_HOME, or root "
    "may create mount namespaces here. Or start the stack as an ordinary user. To accept that all programs run as "
    "root, and that each can read the secrets of all others, pass --one-user (make up UP=--one-user)."
)


async def can_isolate_agents(supervisor: Supervisor, plan: Plan, *, allow_unsandboxed: bool) -> bool:
    """Check the sandbox of agents.

    Returns:
        False if there is none and the caller accepts this.

    Raises:
        StackError: the machine has no working sandbox; the message names the remedies.
    """
    try:
        await supervisor.run_once(plan.sandbox_check(), CHECK_TIMEOUT_S)
    except ServiceFailed as error:
        if not allow_unsandboxed:
            raise StackError(f"{NO_SANDBOX}\n{error.message}") from error
        return False
    return True


async def require_users(supervisor: Supervisor, plan: Plan) -> None:
    """Check that programs can run as users of their own.

    Raises:
        StackError: they cannot; the message names the remedies.
    """
    try:
        await supervisor.run_once(plan.users_check(), CHECK_TIMEOUT_S)
    except ServiceFailed as error:
        raise StackError(f"{NO_USERS}\n{error.message}") from error
