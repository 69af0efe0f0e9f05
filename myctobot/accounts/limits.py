"""Limits on attempts to log in, counted before a password is hashed.

There are three limits:

- an account from one address has few attempts, so that guessing is slow;
- an address has more, because several people may share it;
- an account from all addresses has more, which bounds guessing from many addresses. It does not apply to an address
  from which the account has logged in before, so that wrong passwords from elsewhere do not lock out its user.

Each process counts in its memory, and all of them together count in Redis. If Redis does not answer, the process's own
counts remain, and each attempt takes longer.
"""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, NoReturn

import structlog
from limits import RateLimitItem, RateLimitItemPerSecond
from limits.errors import StorageError
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

from myctobot.accounts.counts import ProcessCounts
from myctobot.accounts.errors import LoginRefused
from myctobot.lib.addresses import address_key
from myctobot.lib.ttl_cache import TtlCache

log = structlog.get_logger(__name__)

_MINUTE: Final = 60
_KNOWN_S: Final = 30 * 24 * 60 * _MINUTE
# The caller chooses the text of an account name.
_LOGGED_CHARACTERS: Final = 64
_PAIR: Final = RateLimitItemPerSecond(5, 5 * _MINUTE, namespace="login-pair")
_ADDRESS: Final = RateLimitItemPerSecond(50, 10 * _MINUTE, namespace="login-address")
_ACCOUNT: Final = RateLimitItemPerSecond(50, 15 * _MINUTE, namespace="login-account")


@dataclass(frozen=True)
class LoginLimits:
    """Failed attempts in a time, and attempts at the same moment in one process.

    Attributes:
        slow_down_s: additional seconds of an attempt while Redis does not answer.
    """

    pair: RateLimitItem = _PAIR
    address: RateLimitItem = _ADDRESS
    account: RateLimitItem = _ACCOUNT
    at_once: int = 32
    at_once_per_address: int = 4
    busy_retry_s: int = 5
    slow_down_s: float = 2.0


@dataclass
class LoginAttempt:
    """Attempt that the limits allow.

    Attributes:
        name: digest of the account's name.
        network: of the address.
        counted: limits in which the attempt was counted, by storage.
    """

    account: str
    address: str
    name: str
    network: str
    counted: list[tuple[Storage, RateLimitItem]] = field(default_factory=list)


class LoginLimiter:
    """Count attempts by account and address, and refuse those above the limits.

    Args:
        shared: counters of all processes; raises ``StorageError`` if they are unavailable.
        sleep: waits for a number of seconds.
    """

    def __init__(
        self, shared: Storage, limits: LoginLimits | None = None, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._shared, self._own, self._sleep = shared, ProcessCounts(), sleep
        self._limits = limits or LoginLimits()
        self._lock = threading.Lock()
        self._running: Counter[str] = Counter()
        # An attacker must not fill the log with refusals.
        self._logged: TtlCache[tuple[str, str], bool] = TtlCache(1000, _MINUTE)

    @property
    def running(self) -> int:
        """Return the number of attempts that are not over."""
        with self._lock:
            return self._running.total()

    @contextmanager
    def attempt(self, account: str, address: str) -> Iterator[LoginAttempt]:
        """Allow an attempt and count it. It is over at the end of the context.

        Raises:
            LoginRefused: a limit is reached.
        """
        name = hashlib.sha256(account.encode("utf-8", "surrogatepass")).hexdigest()
        attempt = LoginAttempt(account, address, name, address_key(address))
        self._start(attempt)
        try:
            self._count(attempt)
            yield attempt
        finally:
            self._end(attempt)

    def succeeded(self, attempt: LoginAttempt) -> None:
        """Take an attempt back, forget the failures of its account from its address, and remember the address."""
        for store, item in attempt.counted:
            key = item.key_for(*self._identifiers(item, attempt))
            try:
                if item == self._limits.pair:
                    store.clear(key)
                    store.incr(_known_key(attempt), _KNOWN_S)
                else:
                    store.incr(key, item.get_expiry(), -1)
            except StorageError as error:
                log.warning("login.counts_unavailable", error=str(error))
                return

    def failed(self, attempt: LoginAttempt) -> None:
        """Log a failed attempt, which stays counted."""
        log.warning("login.failed", account=_printable(attempt.account), address=attempt.address)

    def _start(self, attempt: LoginAttempt) -> None:
        limits, network = self._limits, attempt.network
        with self._lock:
            is_full = self._running.total() >= limits.at_once
            if not is_full and self._running[network] < limits.at_once_per_address:
                self._running[network] += 1
                return
        self._refuse("at_once", attempt, limits.busy_retry_s)

    def _end(self, attempt: LoginAttempt) -> None:
        with self._lock:
            self._running[attempt.network] -= 1
            # Keep the entries of running attempts only.
            self._running += Counter()

    def _count(self, attempt: LoginAttempt) -> None:
        is_known = self._own.get(_known_key(attempt)) > 0
        problem: StorageError | None = None
        try:
            is_known = is_known or self._shared.get(_known_key(attempt)) > 0
        except StorageError as error:
            problem = error
        self._count_in(self._own, attempt, is_known=is_known)
        if problem is None:
            try:
                self._count_in(self._shared, attempt, is_known=is_known)
            except StorageError as error:
                problem = error
        if problem is not None:
            log.warning("login.counts_unavailable", error=str(problem))
            self._sleep(self._limits.slow_down_s)

    def _count_in(self, store: Storage, attempt: LoginAttempt, *, is_known: bool) -> None:
        limiter, limits = FixedWindowRateLimiter(store), self._limits
        # The address comes first, so that one client creates few counters.
        for item in (limits.address, limits.pair) if is_known else (limits.address, limits.pair, limits.account):
            identifiers = self._identifiers(item, attempt)
            if not limiter.hit(item, *identifiers):
                wait_s = limiter.get_window_stats(item, *identifiers).reset_time - time.time()
                self._refuse(item.namespace, attempt, max(1, math.ceil(wait_s)))
            attempt.counted.append((store, item))

    def _identifiers(self, item: RateLimitItem, attempt: LoginAttempt) -> tuple[str, ...]:
        if item == self._limits.pair:
            return attempt.name, attempt.network
        return (attempt.network,) if item == self._limits.address else (attempt.name,)

    def _refuse(self, limit: str, attempt: LoginAttempt, retry_after_s: int) -> NoReturn:
        key = (limit, attempt.name if limit == self._limits.account.namespace else attempt.network)
        if not self._logged.get(key):
            self._logged.put(key, True)
            account = _printable(attempt.account)
            log.warning("login.refused", limit=limit, account=account, address=attempt.address, retry_s=retry_after_s)
        raise LoginRefused(retry_after_s)


def _known_key(attempt: LoginAttempt) -> str:
    return f"login-known/{attempt.name}/{attempt.network}"


def _printable(text: str) -> str:
    """Return the beginning of a text from a caller, without characters that could forge lines of the log."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:_LOGGED_CHARACTERS])
