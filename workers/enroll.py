"""``python -m workers.enroll``: a new shard trades its one-time token for its configuration.

Who it is comes from its own environment, else from that of the container's first process, which the provider sets.
Whatever runs before the worker may call this at every start: a token that was used is not used again, and another one,
as it comes after a snapshot was restored, is.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from myctobot.contract.jobs import MASK, MAX_REQUEST_BYTES, EnrolRequest, is_slug
from workers.config import ConfigError, parse_config
from workers.control_plane import TIMEOUT, Refused, Unreachable, check_answer
from workers.hardening import keep_memory_private

log = logging.getLogger("enroll")

URL, SHARD, TOKEN = "MYCTOBOT_CONTROL_URL", "MYCTOBOT_SHARD", "MYCTOBOT_ENROL_TOKEN"

DONE: Final = 0
NOT_YET: Final = 1  # nobody answered: the same start may do better later
MEND: Final = 2

# Tries in one run: after 1, 2, 4 … 30 s, for this long. Its unit starts it again.
_TRY_FOR_S: Final = 300
_LONGEST_WAIT_S: Final = 30
# A control plane that drips its answer must not hold a start for ever.
_ANSWER_FOR_S: Final = 30
# Nothing to unpack: a few bytes must not become many.
_PLAIN: Final = {"Accept-Encoding": "identity"}
_MAX_SAID: Final = 300


class Misplaced(Exception):
    """What this machine was told cannot be used; the message says what to mend."""


@dataclass(frozen=True)
class Invitation:
    """What a provider tells a new container."""

    control_url: str
    shard: str
    token: str = field(repr=False)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.token.encode()).hexdigest()


def invitation(own: Mapping[str, str], first: Mapping[str, str]) -> Invitation | None:
    """Take the invitation from the one environment that holds a token, this process's own before the first one's.

    Raises:
        Misplaced: there is a token, and what belongs to it is missing or no use.
    """
    found = next((env for env in (own, first) if env.get(TOKEN)), None)
    if found is None:
        return None
    url, shard = found.get(URL, "").rstrip("/"), found.get(SHARD, "")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Misplaced(f"{URL} must be the control plane's address, such as https://control.example.")
    if not is_slug(shard):
        raise Misplaced(f"{SHARD} must be the shard's name, a lower-case slug.")
    if not found[TOKEN].isascii() or not found[TOKEN].isprintable():
        raise Misplaced(f"{TOKEN} holds characters that no token has; copy it again.")
    return Invitation(url, shard, found[TOKEN])


def read_environ(path: Path) -> dict[str, str]:
    """The variables in a file such as ``/proc/1/environ``; none where it cannot be read, which takes root."""
    try:
        data = path.read_bytes()
    except OSError:
        return {}
    pairs = (entry.partition(b"=") for entry in data.split(b"\0"))
    return {name.decode(errors="replace"): value.decode(errors="replace") for name, _, value in pairs if name}


def redeem(asked: Invitation) -> dict[str, Any]:
    """Ask the control plane for the configuration, once.

    Raises:
        Refused: such as a token that was used before.
        Unreachable: no answer, or one that is not the control plane's.
    """
    body = EnrolRequest(token=asked.token)
    try:
        # As every call of a shard: nothing of the environment adds to it, and no redirect sends the token elsewhere.
        with (
            httpx.Client(timeout=TIMEOUT, trust_env=False, follow_redirects=False, headers=_PLAIN) as client,
            client.stream("POST", f"{asked.control_url}/shard/v1/enroll", json=body) as response,
        ):
            content = _bounded(response.iter_raw(), time.monotonic() + _ANSWER_FOR_S)
            answer = check_answer(httpx.Response(response.status_code, content=content))
    except httpx.HTTPError as error:
        raise Unreachable(f"the control plane cannot be reached: {error or type(error).__name__}") from error
    config = answer.get("config")
    if not isinstance(config, dict):
        raise Unreachable("something else than the control plane answered: there is no 'config' in it")
    return config


def _bounded(chunks: Iterator[bytes], until: float) -> bytes:
    content = b""
    for chunk in chunks:
        content += chunk
        if len(content) > MAX_REQUEST_BYTES or time.monotonic() > until:
            raise Unreachable("something else than the control plane answered: too much, or too slowly")
    return content


def check_config(config: dict[str, Any], asked: Invitation) -> None:
    """Refuse a configuration with which the worker would not start, or that makes this another shard.

    Raises:
        Misplaced: the message names the key.
    """
    try:
        parsed = parse_config(config)
    except ConfigError as error:
        raise Misplaced(f"the control plane's answer does not suit this version of the shard: {error}") from error
    if parsed.shard_id != asked.shard:
        raise Misplaced(
            f"the control plane's answer is for the shard '{parsed.shard_id}', but {SHARD} says '{asked.shard}'; "
            "give this shard a token of its own."
        )


class Place:
    """Where the configuration lies, and beside it the digest of the token that it was got with."""

    def __init__(self, config: Path) -> None:
        self._config = config
        self._used = config.with_name(config.name + ".token")

    def is_enrolled_with(self, digest: str) -> bool:
        with suppress(OSError, UnicodeDecodeError):
            return self._config.is_file() and self._used.read_text().strip() == digest
        return False

    def keep(self, config: dict[str, Any], digest: str) -> None:
        """Write both, for their owner alone; the configuration first: without it the digest would be a lie.

        Raises:
            OSError: such as a full disk.
        """
        self._config.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(self._config, json.dumps(config, indent=1) + "\n")
        _write(self._used, digest + "\n")


def _write(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def enrol(asked: Invitation, place: Place, sleep: Callable[[float], None] = time.sleep) -> int:
    """Trade the token for the configuration, with patience; returns the exit code.

    Args:
        sleep: waits between tries.
    """
    if place.is_enrolled_with(asked.digest):
        log.info("shard %s has enrolled with this token before", asked.shard)
        return DONE
    try:
        config = _patiently(asked, sleep)
        check_config(config, asked)
        place.keep(config, asked.digest)
    except Unreachable as error:
        log.error("shard %s is not enrolled yet: %s; it is tried again", asked.shard, error)
        return NOT_YET
    except Refused as error:
        said = _for_the_log(str(error), asked)
        log.error(
            "the control plane refused: %s Make a new token for the shard '%s', and start again", said, asked.shard
        )
        return MEND
    except Misplaced as error:
        log.error("%s", _for_the_log(str(error), asked))
        return MEND
    except OSError as error:
        log.error("the configuration cannot be written: %s; mend that, and make a new token", error.strerror)
        return MEND
    log.info("shard %s is enrolled at %s", asked.shard, asked.control_url)
    return DONE


def _for_the_log(said: str, asked: Invitation) -> str:
    """What somebody else wrote, on one line, without the token."""
    kept = said.replace(asked.token, MASK)[:_MAX_SAID]
    return "".join(char if char.isprintable() else " " for char in kept)


def _patiently(asked: Invitation, sleep: Callable[[float], None]) -> dict[str, Any]:
    waited, wait = 0.0, 1.0
    while True:
        try:
            return redeem(asked)
        except Unreachable as error:
            if waited >= _TRY_FOR_S:
                raise
            log.warning("%s; next try in %g s", error, wait)
        sleep(wait)
        waited, wait = waited + wait, min(wait * 2, _LONGEST_WAIT_S)


def main() -> int:
    """Enrol if there is a token; returns the exit code. 2 means: mend what the log says, and start again."""
    keep_memory_private()
    parser = argparse.ArgumentParser(description="Trade a one-time token for this shard's configuration.")
    parser.add_argument("--config", type=Path, default=Path("/etc/claude-shard/config.json"))
    parser.add_argument("--environ", type=Path, default=Path("/proc/1/environ"))
    arguments = parser.parse_args()
    logging.basicConfig(format="%(levelname)s %(name)s %(message)s", level=logging.INFO, stream=sys.stderr)
    for noisy in ("httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        asked = invitation(os.environ, read_environ(arguments.environ))
    except Misplaced as error:
        logging.error("%s", error)
        return MEND
    if asked is None:
        log.info("there is no %s, so there is nothing to do", TOKEN)
        return DONE
    return enrol(asked, Place(arguments.config.absolute()))


if __name__ == "__main__":
    sys.exit(main())
