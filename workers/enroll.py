"""Command ``python -m workers.enroll``, by which a new shard exchanges its one-time token for its configuration.

The token and the shard's name are in this process's environment, or in that of the container's first process, which the
provider sets. The command may run at every start: it does not send a used token again, but it does send a new one, such
as after a snapshot was restored.
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

from myctobot.contract.limits import MAX_REQUEST_BYTES
from myctobot.contract.names import is_slug
from myctobot.contract.redaction import MASK
from myctobot.contract.secure_links import Network, link_problem, parse_networks
from myctobot.contract.shards import EnrolRequest
from workers.config import ConfigError, parse_config, used_token_path
from workers.control_plane import TIMEOUT, CallRefused, ControlPlaneUnreachable, check_answer
from workers.hardening import keep_memory_private

log = logging.getLogger("enroll")

URL, SHARD, TOKEN = "MYCTOBOT_CONTROL_URL", "MYCTOBOT_SHARD", "MYCTOBOT_ENROL_TOKEN"
PLAIN_NETWORKS: Final = "MYCTOBOT_PLAIN_NETWORKS"

EXIT_DONE: Final = 0
EXIT_TRY_LATER: Final = 1  # the control plane did not answer; the same start may succeed later
EXIT_FIX_FIRST: Final = 2

# One run tries after 1, 2, 4 … 30 s, for this long. Then its systemd unit starts it again.
_RETRY_FOR_S: Final = 300
_MAX_WAIT_S: Final = 30
# A control plane that sends its answer slowly must not block the start for ever.
_MAX_ANSWER_S: Final = 30
# A compressed answer could expand to more bytes than allowed.
_NO_COMPRESSION: Final = {"Accept-Encoding": "identity"}
_MAX_LOGGED: Final = 300


class EnrolmentError(Exception):
    """Invitation or configuration is invalid; the message says what to fix."""


@dataclass(frozen=True)
class Invitation:
    """Address, name and one-time token that a provider gives to a new container.

    Attributes:
        plain_networks: networks in which the token and the key may travel without TLS.
    """

    control_url: str
    shard: str
    token: str = field(repr=False)
    plain_networks: tuple[Network, ...] = ()

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.token.encode()).hexdigest()


def find_invitation(own: Mapping[str, str], first: Mapping[str, str]) -> Invitation | None:
    """Return the invitation of the environment that has a token, or None.

    All values come from one environment, so that a token never goes to an address from another one.

    Args:
        own: environment of this process, which is used first.
        first: environment of the container's first process.

    Raises:
        EnrolmentError: there is a token, but its address or name is missing or invalid.
    """
    found = next((env for env in (own, first) if env.get(TOKEN)), None)
    if found is None:
        return None
    url, shard = found.get(URL, "").rstrip("/"), found.get(SHARD, "")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise EnrolmentError(f"{URL} must be the address of the control plane, such as https://control.example.")
    if not is_slug(shard):
        raise EnrolmentError(f"{SHARD} must be the shard's name, a lower-case slug.")
    if not found[TOKEN].isascii() or not found[TOKEN].isprintable():
        raise EnrolmentError(f"{TOKEN} contains characters that are not allowed in a token; copy it again.")
    try:
        networks = parse_networks(found.get(PLAIN_NETWORKS, "").replace(",", " ").split())
    except ValueError as error:
        raise EnrolmentError(f"{PLAIN_NETWORKS}: {error}; write networks such as 10.0.0.0/24.") from error
    return Invitation(url, shard, found[TOKEN], networks)


def read_environ(path: Path) -> dict[str, str]:
    """Return the variables in a file such as ``/proc/1/environ``; none when it cannot be read, which only root can."""
    try:
        data = path.read_bytes()
    except OSError:
        return {}
    pairs = (entry.partition(b"=") for entry in data.split(b"\0"))
    return {name.decode(errors="replace"): value.decode(errors="replace") for name, _, value in pairs if name}


def redeem(invitation: Invitation) -> dict[str, Any]:
    """Request the configuration from the control plane, once.

    Raises:
        CallRefused: such as a token that was used before.
        ControlPlaneUnreachable: there is no answer, or it is not the control plane's.
    """
    body = EnrolRequest(token=invitation.token)
    try:
        # The environment must not add to this call, and a redirect must not send the token elsewhere.
        with (
            httpx.Client(timeout=TIMEOUT, trust_env=False, follow_redirects=False, headers=_NO_COMPRESSION) as client,
            client.stream("POST", f"{invitation.control_url}/shard/v1/enroll", json=body) as response,
        ):
            content = _read_limited(response.iter_raw(), time.monotonic() + _MAX_ANSWER_S)
            answer = check_answer(httpx.Response(response.status_code, content=content))
    except httpx.HTTPError as error:
        raise ControlPlaneUnreachable(
            f"the control plane cannot be reached: {error or type(error).__name__}"
        ) from error
    config = answer.get("config")
    if not isinstance(config, dict):
        raise ControlPlaneUnreachable("a different server answered: its answer has no 'config'")
    return config


def _read_limited(chunks: Iterator[bytes], until: float) -> bytes:
    content = b""
    for chunk in chunks:
        content += chunk
        if len(content) > MAX_REQUEST_BYTES or time.monotonic() > until:
            raise ControlPlaneUnreachable("a different server answered: its answer is too large or too slow")
    return content


def check_config(config: dict[str, Any], invitation: Invitation) -> None:
    """Check that the worker would start with a configuration, and that it is for this shard.

    Raises:
        EnrolmentError: the configuration is invalid; the message names the key.
    """
    try:
        parsed = parse_config(config)
    except ConfigError as error:
        raise EnrolmentError(f"the control plane's answer does not fit this version of the shard: {error}") from error
    if parsed.shard_id != invitation.shard:
        raise EnrolmentError(
            f"the control plane's answer is for the shard '{parsed.shard_id}', but {SHARD} says '{invitation.shard}'; "
            "give this shard a token of its own."
        )


class ConfigLocation:
    """Configuration file, and next to it the digest of the token that was exchanged for it."""

    def __init__(self, config: Path) -> None:
        self._config = config
        self._used = used_token_path(config)

    def is_enrolled_with(self, digest: str) -> bool:
        with suppress(OSError, UnicodeDecodeError):
            return self._config.is_file() and self._used.read_text().strip() == digest
        return False

    def save(self, config: dict[str, Any], digest: str) -> None:
        """Write both files, readable by their owner only.

        The configuration comes first, because a digest says that there is a configuration.

        Raises:
            OSError: a file cannot be written, such as on a full disk.
        """
        self._config.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_private_file(self._config, json.dumps(config, indent=1) + "\n")
        _write_private_file(self._used, digest + "\n")


def _write_private_file(path: Path, text: str) -> None:
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


def enrol(invitation: Invitation, location: ConfigLocation, sleep: Callable[[float], None] = time.sleep) -> int:
    """Exchange the token for the configuration, with several tries, and return the exit code.

    Args:
        sleep: called with the seconds to wait between tries.
    """
    if location.is_enrolled_with(invitation.digest):
        log.info("shard %s has enrolled with this token before", invitation.shard)
        return EXIT_DONE
    if problem := link_problem(URL, invitation.control_url, invitation.plain_networks, PLAIN_NETWORKS):
        log.error("%s", problem)
        return EXIT_FIX_FIRST
    try:
        config = _redeem_with_retries(invitation, sleep)
        check_config(config, invitation)
        location.save(config, invitation.digest)
    except ControlPlaneUnreachable as error:
        log.error("shard %s is not enrolled yet: %s; the next start tries again", invitation.shard, error)
        return EXIT_TRY_LATER
    except CallRefused as error:
        message = _log_safe(str(error), invitation)
        log.error(
            "the control plane refused the token: %s Make a new token for the shard '%s' and start again",
            message,
            invitation.shard,
        )
        return EXIT_FIX_FIRST
    except EnrolmentError as error:
        log.error("%s", _log_safe(str(error), invitation))
        return EXIT_FIX_FIRST
    except OSError as error:
        log.error("the configuration cannot be written: %s; fix that, make a new token and start again", error.strerror)
        return EXIT_FIX_FIRST
    log.info("shard %s is enrolled at %s", invitation.shard, invitation.control_url)
    return EXIT_DONE


def _log_safe(message: str, invitation: Invitation) -> str:
    """Return a message that is safe to log: shortened, on one line and without the token."""
    kept = message.replace(invitation.token, MASK)[:_MAX_LOGGED]
    return "".join(char if char.isprintable() else " " for char in kept)


def _redeem_with_retries(invitation: Invitation, sleep: Callable[[float], None]) -> dict[str, Any]:
    waited, wait = 0.0, 1.0
    while True:
        try:
            return redeem(invitation)
        except ControlPlaneUnreachable as error:
            if waited >= _RETRY_FOR_S:
                raise
            log.warning("%s; next try in %g s", error, wait)
        sleep(wait)
        waited, wait = waited + wait, min(wait * 2, _MAX_WAIT_S)


def main() -> int:
    """Enrol if there is a token.

    Returns:
        The exit code; 2 means that an operator must fix what the log says before the next start.
    """
    keep_memory_private()
    parser = argparse.ArgumentParser(description="Exchange a one-time token for this shard's configuration.")
    parser.add_argument("--config", type=Path, default=Path("/etc/claude-shard/config.json"))
    parser.add_argument("--environ", type=Path, default=Path("/proc/1/environ"))
    arguments = parser.parse_args()
    logging.basicConfig(format="%(levelname)s %(name)s %(message)s", level=logging.INFO, stream=sys.stderr)
    for noisy in ("httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        invitation = find_invitation(os.environ, read_environ(arguments.environ))
    except EnrolmentError as error:
        logging.error("%s", error)
        return EXIT_FIX_FIRST
    if invitation is None:
        log.info("%s is not set, so there is nothing to do", TOKEN)
        return EXIT_DONE
    return enrol(invitation, ConfigLocation(arguments.config.absolute()))


if __name__ == "__main__":
    sys.exit(main())
