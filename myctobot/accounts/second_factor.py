"""Second factor of staff: set up, use, and what a session still needs."""

from __future__ import annotations

import time
from enum import Enum
from typing import Any, Final

import structlog
from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from django.db import transaction

from myctobot.accounts.codes import (
    RecoveryCodes,
    is_time_based,
    matching_step,
    new_recovery_codes,
    new_secret,
    plain_code,
    recovery_hash,
)
from myctobot.accounts.models import TotpDevice
from myctobot.lib.crypto import CannotUnseal
from myctobot.tenants.audit import record
from myctobot.tenants.secrets import sealer

log = structlog.get_logger(__name__)

_PENDING: Final = "second_factor_pending"
# Its value in a session is the id of the device that the session has proved.
_PROVED: Final = "second_factor_device"


class MissingStep(Enum):
    """Step that a session of staff needs before it may do anything."""

    NONE = "none"
    # The session began before the user had this second factor, or its second factor was removed.
    LOGIN = "login"
    # The settings require a second factor, and the user has none.
    SET_UP = "set up"


def missing_step(user: User | AnonymousUser, session: Any) -> MissingStep:
    """Return the step that a session needs."""
    proved = session.get(_PROVED)
    if not isinstance(user, User) or (proved is None and not user.is_staff):
        return MissingStep.NONE
    device = TotpDevice.objects.filter(user=user).values_list("pk", flat=True).first()
    # Also true if the device was removed, so that a reset ends the sessions that have proved it.
    if proved != device:
        return MissingStep.LOGIN
    is_required = settings.STAFF_TOTP_REQUIRED and user.is_staff and device is None
    return MissingStep.SET_UP if is_required else MissingStep.NONE


def mark_proved(session: Any, device_id: int) -> None:
    """Note in a session that its user has proved a device."""
    session[_PROVED] = device_id


def pending_secret(user: User, session: Any) -> str:
    """Return the secret that the user is setting up; the session keeps it, sealed."""
    binding = _binding(user)
    try:
        secret: str = sealer().unseal(session[_PENDING], bound_to=binding)["secret"]
    except (KeyError, CannotUnseal):
        secret = new_secret()
        session[_PENDING] = sealer().seal({"secret": secret}, bound_to=binding)
    return secret


def set_up(user: User, session: Any, code: str) -> RecoveryCodes | None:
    """Store the pending secret if the code shows that the user's app has it; None if it does not, or another is stored.

    Returns:
        The recovery codes, which are shown once.
    """
    secret = pending_secret(user, session)
    step = matching_step(secret, plain_code(code), time.time())
    if step is None:
        return None
    recovery = new_recovery_codes()
    sealed = sealer().seal({"secret": secret}, bound_to=_binding(user))
    with transaction.atomic():
        values = {"sealed": sealed, "last_step": step, "recovery_hashes": list(recovery.hashes)}
        device, is_new = TotpDevice.objects.get_or_create(user=user, defaults=values)
        if not is_new:
            return None
        record(user.get_username(), "user.second_factor_set_up", f"user/{user}")
    del session[_PENDING]
    mark_proved(session, device.pk)
    return recovery


def device_of(user: User) -> TotpDevice | None:
    """Return the device of a user, or None."""
    return getattr(user, "totp", None)


def accepts(user: User, code: str) -> bool:
    """Check the second factor of a login and use the code up; true for a user without one."""
    device = device_of(user)
    if device is None:
        return True
    plain = plain_code(code)
    return _use_time_based(device, plain) if is_time_based(plain) else _use_recovery(device, plain)


def reset(user: User, actor: str) -> bool:
    """Remove the second factor of a user, which ends the sessions that have proved it; false if there is none."""
    with transaction.atomic():
        count, _ = TotpDevice.objects.filter(user=user).delete()
        if count:
            record(actor, "user.second_factor_reset", f"user/{user}")
    return bool(count)


def _binding(user: User) -> str:
    return f"totp:{user.pk}"


def _use_time_based(device: TotpDevice, code: str) -> bool:
    try:
        secret: str = sealer().unseal(device.sealed, bound_to=_binding(device.user))["secret"]
    except CannotUnseal as error:
        # Recovery codes still work.
        log.error("login.second_factor_unreadable", user=device.user_id, error=str(error))
        return False
    step = matching_step(secret, code, time.time())
    # Of two logins with the same code at once, one changes the row.
    return step is not None and bool(TotpDevice.objects.filter(pk=device.pk, last_step__lt=step).update(last_step=step))


def _use_recovery(device: TotpDevice, code: str) -> bool:
    wanted = recovery_hash(code)
    with transaction.atomic():
        row = TotpDevice.objects.select_for_update().filter(pk=device.pk).first()
        if row is None or wanted not in row.recovery_hashes:
            return False
        row.recovery_hashes.remove(wanted)
        row.save(update_fields=["recovery_hashes"])
        details = {"left": len(row.recovery_hashes)}
        record(device.user.get_username(), "user.recovery_code_used", f"user/{device.user}", details)
    return True
