"""How git gets the job's token: never in a URL, an argument list, an environment or a file.

For https, git's askpass program reads the token once from a pipe that it inherited, and only when
the question names the one host that the job is about: a redirect elsewhere gets no answer. For ssh,
a private key goes over standard input into an ``ssh-agent`` that lives for one call of git.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from myctobot.contract.jobs import secret_spellings
from workers.errors import JobError
from workers.git.command import PATH, ends_with_us, run_process
from workers.git.policy import GitPolicy, Remote

DEFAULT_USER: Final = "x-access-token"
SYSTEM_KNOWN_HOSTS: Final = Path("/etc/ssh/ssh_known_hosts")
AGENT_TIMEOUT_S: Final = 10
CONNECT_TIMEOUT_S: Final = 20
# What unix(7) has room for, of characters that ssh's options do not expand.
_SOCKET_PATH: Final = re.compile(r"[\w./+ -]{1,107}", re.ASCII)
# One write must fit the pipe, as nobody reads yet.
MAX_TOKEN_BYTES: Final = 16 * 2**10

_ASKPASS: Final = """#!/bin/sh
case "$1" in
  "Password for 'https://"*"@$MYCTOBOT_GIT_HOST': ") exec cat "/proc/self/fd/$MYCTOBOT_GIT_FD" ;;
esac
exit 1
"""


@dataclass(frozen=True)
class Token:
    """A user name, which is no secret, and a password for https."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Access:
    """What a call of git needs to get in, beside its ordinary environment."""

    env: dict[str, str]
    config: tuple[str, ...] = ()
    pass_fds: tuple[int, ...] = ()


def parse_token(text: str) -> Token:
    """Split ``user:token``, or take the whole as the token.

    Raises:
        JobError: ``repo_token_invalid``.
    """
    text = text.strip()
    if is_private_key(text):
        raise JobError("repo_token_invalid", "repo_token is an ssh key but repo_url is https; give a token instead.")
    if not text or not text.isprintable() or len(text.encode()) > MAX_TOKEN_BYTES:
        raise JobError("repo_token_invalid", "repo_token must be a token, or user:token, on one line.")
    user, colon, password = text.partition(":")
    if not colon:
        return Token(DEFAULT_USER, text)
    # The older of GitHub's spellings has the token as the user.
    if password in ("x-oauth-basic", ""):
        return Token(DEFAULT_USER, user)
    if not re.fullmatch(r"[A-Za-z0-9_.@+-]{1,128}", user):
        raise JobError("repo_token_invalid", "repo_token has a user name with characters that are not allowed.")
    return Token(user, password)


def is_private_key(text: str) -> bool:
    return text.lstrip().startswith("-----BEGIN ")


def spellings(token: str | None) -> list[str]:
    """Every spelling to keep out of what is shown, the longest first."""
    if not token:
        return []
    secrets = {token, token.strip()}
    if is_private_key(token):
        secrets |= {line for line in token.splitlines() if len(line) > 20}
    else:
        secrets |= set(token.strip().split(":", 1))
    return sorted({spelling for secret in secrets for spelling in secret_spellings(secret)}, key=len, reverse=True)


@contextlib.asynccontextmanager
async def access(
    remote: Remote, token: str | None, policy: GitPolicy, git_dir: Path, timeout_s: float
) -> AsyncIterator[Access]:
    """What one call of git needs to reach ``remote`` with ``token``; gone when the block ends.

    Args:
        git_dir: a directory of the runner for the askpass program, which holds no secret, and the agent's socket.
        timeout_s: how long the call may take, which is how long a key is kept.

    Raises:
        JobError: the token does not fit the URL, or the key cannot be used.
    """
    env = {"GIT_ALLOW_PROTOCOL": remote.scheme}
    if remote.scheme == "ssh":
        async with _ssh_agent(token, git_dir, timeout_s) as socket:
            yield Access({**env, "GIT_SSH_COMMAND": ssh_command(remote, policy, socket), "GIT_SSH_VARIANT": "ssh"})
    elif remote.scheme == "https":
        with _askpass(remote, token, git_dir) as more:
            yield Access({**env, **more.env}, (*_https_config(remote, policy), *more.config), more.pass_fds)
    else:
        yield Access(env)


def _https_config(remote: Remote, policy: GitPolicy) -> tuple[str, ...]:
    # Behind a proxy the host's address is the proxy's affair: git may not even be able to look it up.
    way = f"http.curloptResolve={remote.curl_resolve}" if policy.proxy_url is None else f"http.proxy={policy.proxy_url}"
    return (
        way,
        "http.followRedirects=false",
        "http.lowSpeedLimit=1",
        "http.lowSpeedTime=60",
        "http.sslVerify=true",
        "credential.helper=",
        *([f"http.sslCAInfo={policy.ca_file}"] if policy.ca_file else []),
    )


@contextlib.contextmanager
def _askpass(remote: Remote, text: str | None, git_dir: Path) -> Iterator[Access]:
    if not text:
        yield Access({})
        return
    token = parse_token(text)
    script = git_dir / "askpass"
    script.write_text(_ASKPASS)
    script.chmod(0o700)
    read = filled_pipe(token.password.encode())
    try:
        env = {"GIT_ASKPASS": str(script), "MYCTOBOT_GIT_HOST": remote.netloc, "MYCTOBOT_GIT_FD": str(read)}
        yield Access(env, (f"credential.username={token.user}",), (read,))
    finally:
        os.close(read)


def ssh_command(remote: Remote, policy: GitPolicy, agent_socket: Path) -> str:
    """The value of ``GIT_SSH_COMMAND``: no user or system configuration, only our key, only the checked address."""
    # What known_hosts has for a port other than 22; an alias is looked up as it stands.
    alias = remote.host if remote.port == 22 else f"[{remote.host}]:{remote.port}"
    options = {
        "BatchMode": "yes",
        "CanonicalizeHostname": "no",
        "ClearAllForwardings": "yes",
        "ConnectTimeout": CONNECT_TIMEOUT_S,
        "ControlPath": "none",
        "ForwardAgent": "no",
        "GlobalKnownHostsFile": "/dev/null",
        "HostKeyAlias": alias,
        "HostName": remote.addresses[0],
        "IdentityAgent": f'"{agent_socket}"',
        "IdentityFile": "none",
        "PermitLocalCommand": "no",
        "PreferredAuthentications": "publickey",
        "ServerAliveInterval": 20,
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
        "UserKnownHostsFile": f'"{policy.known_hosts or SYSTEM_KNOWN_HOSTS}"',
    }
    pairs = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    return shlex.join(["ssh", "-F", "/dev/null", "-x", "-T", *pairs])


@contextlib.asynccontextmanager
async def _ssh_agent(token: str | None, git_dir: Path, lifetime_s: float) -> AsyncIterator[Path]:
    if not token or not is_private_key(token):
        raise JobError("repo_token_invalid", "repo_token must be a private ssh key for a repo_url with ssh://.")
    directory = _socket_directory(git_dir)
    socket = directory / "agent"
    env = {"PATH": PATH, "HOME": str(directory), "SSH_ASKPASS": "/bin/false", "SSH_AUTH_SOCK": str(socket)}
    try:
        agent = await _start_agent(socket, env, directory)
        try:
            async with ends_with_us(agent):
                await _add_key(token, env, directory, lifetime_s)
                yield socket
        finally:
            agent.kill()
            await agent.wait()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _socket_directory(git_dir: Path) -> Path:
    """A new directory for a socket ``agent``: in ``git_dir``, which goes with the job, if that path is fit for one."""
    below = Path(tempfile.mkdtemp(prefix="ssh-", dir=git_dir.absolute()))
    if _SOCKET_PATH.fullmatch(str(below / "agent")):
        return below
    below.rmdir()
    return Path(tempfile.mkdtemp(prefix="myctobot-ssh-"))


async def _start_agent(socket: Path, env: dict[str, str], cwd: Path) -> asyncio.subprocess.Process:
    try:
        agent = await asyncio.create_subprocess_exec(
            *("ssh-agent", "-D", "-a", str(socket)),
            env=env,
            cwd=cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise JobError("ssh_missing", "'ssh-agent' is not installed on this shard; tell the operator.") from error
    if agent.stdout is None:  # asked for as a pipe
        raise AssertionError("the agent has no pipe")
    try:
        # It prints its variables once it listens.
        async with asyncio.timeout(AGENT_TIMEOUT_S):
            if not await agent.stdout.readline():
                raise JobError("ssh_agent_failed", "ssh-agent does not start on this shard; tell the operator.")
    except BaseException:
        agent.kill()
        await agent.wait()
        raise
    return agent


async def _add_key(key: str, env: dict[str, str], cwd: Path, lifetime_s: float) -> None:
    data = (key.replace("\r\n", "\n").strip() + "\n").encode()
    if len(data) > MAX_TOKEN_BYTES:
        raise JobError("repo_token_invalid", "repo_token is too long for a private ssh key.")
    read = filled_pipe(data)
    try:
        argv = ["ssh-add", "-q", "-t", str(math.ceil(lifetime_s)), "-"]
        result = await run_process(argv, env=env, cwd=cwd, timeout_s=AGENT_TIMEOUT_S, stdin=read)
    finally:
        os.close(read)
    if result.returncode != 0:
        raise JobError(
            "repo_token_invalid", "repo_token is no ssh key that can be used; give a private key without a passphrase."
        )


def filled_pipe(data: bytes) -> int:
    """The reading end of a pipe that holds ``data``, at most ``MAX_TOKEN_BYTES``, and then ends."""
    read, write = os.pipe()
    try:
        os.write(write, data)
    finally:
        os.close(write)
    return read
