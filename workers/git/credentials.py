"""Credentials for one call of git: the job's token is never in a URL, an argument list, an environment or a file.

For https, git's askpass program reads the token once from an inherited pipe, and only when the question names the job's
host, so a redirect to another host gets no answer. For ssh, a private key goes through standard input to an
``ssh-agent`` that lives for one call of git.
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

from myctobot.contract.redaction import secret_encodings
from workers.errors import JobError
from workers.git.line_pipe import named_pipe
from workers.git.local_repository import open_repository
from workers.git.policy import GitPolicy, Remote
from workers.git.process import PATH, dies_with_runner, run_process

DEFAULT_USER: Final = "x-access-token"
SYSTEM_KNOWN_HOSTS: Final = Path("/etc/ssh/ssh_known_hosts")
AGENT_TIMEOUT_S: Final = 10
CONNECT_TIMEOUT_S: Final = 20
MAX_SSH_LINES: Final = 20
# Paths that fit into the address of a socket (unix(7)), without characters that ssh's options expand.
_SOCKET_PATH: Final = re.compile(r"[\w./+ -]{1,107}", re.ASCII)
# The token must fit into the pipe, because it is written before there is a reader.
MAX_TOKEN_BYTES: Final = 16 * 2**10

_ASKPASS: Final = """#!/bin/sh
case "$1" in
  "Password for 'https://"*"@$MYCTOBOT_GIT_HOST': ") exec cat "/proc/self/fd/$MYCTOBOT_GIT_FD" ;;
esac
exit 1
"""


@dataclass(frozen=True)
class Token:
    """User name, which is no secret, and password for https."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class GitAccess:
    """Environment, configuration and descriptors that give one call of git access to the remote.

    Attributes:
        address: path of a descriptor that replaces the URL; None where git uses the URL itself.
        ssh_lines: receives the first messages of the ssh client itself.
    """

    env: dict[str, str]
    config: tuple[str, ...] = ()
    pass_fds: tuple[int, ...] = ()
    address: str | None = None
    ssh_lines: list[str] = field(default_factory=list)


def parse_token(text: str) -> Token:
    """Split ``user:token``, or use the whole text as the token.

    Raises:
        JobError: ``repo_token_invalid``.
    """
    text = text.strip()
    if is_private_key(text):
        raise JobError("repo_token_invalid", "repo_token is an ssh key, but repo_url is https; give a token instead.")
    if not text or not text.isprintable() or len(text.encode()) > MAX_TOKEN_BYTES:
        raise JobError("repo_token_invalid", "repo_token must be a token, or user:token, on one line.")
    user, colon, password = text.partition(":")
    if not colon:
        return Token(DEFAULT_USER, text)
    # In GitHub's older notation, the token is the user name.
    if password in ("x-oauth-basic", ""):
        return Token(DEFAULT_USER, user)
    if not re.fullmatch(r"[A-Za-z0-9_.@+-]{1,128}", user):
        message = "repo_token has a user name with characters that are not allowed; give user:token."
        raise JobError("repo_token_invalid", message)
    return Token(user, password)


def is_private_key(text: str) -> bool:
    return text.lstrip().startswith("-----BEGIN ")


def encodings(token: str | None) -> list[str]:
    """Return every encoding of a token that must not be shown, the longest first."""
    if not token:
        return []
    secrets = {token, token.strip()}
    if is_private_key(token):
        secrets |= {line for line in token.splitlines() if len(line) > 20}
    else:
        secrets |= set(token.strip().split(":", 1))
    return sorted({encoding for secret in secrets for encoding in secret_encodings(secret)}, key=len, reverse=True)


@contextlib.asynccontextmanager
async def git_access(
    remote: Remote, token: str | None, policy: GitPolicy, git_dir: Path, timeout_s: float
) -> AsyncIterator[GitAccess]:
    """Provide the access to ``remote`` with ``token`` for one call of git, until the block ends.

    Args:
        git_dir: directory of the runner for the askpass program, which has no secret, and for the ssh-agent's socket.
        timeout_s: limit of the call, and so the lifetime of a key in the ssh-agent.

    Raises:
        JobError: the token does not fit the URL, the key cannot be used, or a local repository is refused.
    """
    env = {"GIT_ALLOW_PROTOCOL": remote.scheme}
    if remote.scheme == "ssh":
        async with _ssh_agent(token, git_dir, timeout_s) as socket:
            lines: list[str] = []
            log = socket.with_name("log")
            # The messages of the client are apart from those of the server, which can contain any text.
            with named_pipe(log, lambda line: lines.append(line) if len(lines) < MAX_SSH_LINES else None):
                command = ssh_command(remote, policy, socket, log)
                yield GitAccess({**env, "GIT_SSH_COMMAND": command, "GIT_SSH_VARIANT": "ssh"}, ssh_lines=lines)
    elif remote.scheme == "https":
        with _askpass(remote, token, git_dir) as more:
            yield GitAccess({**env, **more.env}, (*_https_config(remote, policy), *more.config), more.pass_fds)
    else:
        # The check reads all names in the repository, and the runner must renew its lease while that takes long.
        repository = await asyncio.to_thread(open_repository, remote.url, policy.file_roots)
        try:
            yield GitAccess(env, pass_fds=(repository,), address=f"/proc/self/fd/{repository}")
        finally:
            os.close(repository)


def _https_config(remote: Remote, policy: GitPolicy) -> tuple[str, ...]:
    # The proxy resolves the host's address, and git behind it may not be able to.
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
def _askpass(remote: Remote, text: str | None, git_dir: Path) -> Iterator[GitAccess]:
    if not text:
        yield GitAccess({})
        return
    token = parse_token(text)
    script = git_dir / "askpass"
    script.write_text(_ASKPASS)
    script.chmod(0o700)
    read = filled_pipe(token.password.encode())
    try:
        env = {"GIT_ASKPASS": str(script), "MYCTOBOT_GIT_HOST": remote.netloc, "MYCTOBOT_GIT_FD": str(read)}
        yield GitAccess(env, (f"credential.username={token.user}",), (read,))
    finally:
        os.close(read)


def ssh_command(remote: Remote, policy: GitPolicy, agent_socket: Path, log: Path) -> str:
    """Return the value of ``GIT_SSH_COMMAND``: no other configuration, only our key and the checked address.

    Args:
        log: receives the client's own messages.
    """
    # ssh searches known_hosts for the alias as it is, where a port other than 22 is written in this form.
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
    return shlex.join(["ssh", "-F", "/dev/null", "-x", "-T", "-E", str(log), *pairs])


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
            async with dies_with_runner(agent):
                await _add_key(token, env, directory, lifetime_s)
                yield socket
        finally:
            agent.kill()
            await agent.wait()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _socket_directory(git_dir: Path) -> Path:
    """Return a new directory for the socket ``agent``, in ``git_dir`` if a socket's path may be that long.

    ``git_dir`` is removed with the job, so no directory is left behind there.
    """
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
        message = "'ssh-agent' is not installed on this shard; ask the operator to install it."
        raise JobError("ssh_missing", message) from error
    if agent.stdout is None:  # it was requested as a pipe
        raise AssertionError("the agent has no pipe")
    try:
        # The agent prints its variables after it has started to listen.
        async with asyncio.timeout(AGENT_TIMEOUT_S):
            if not await agent.stdout.readline():
                message = "ssh-agent does not start on this shard; ask the operator to check it."
                raise JobError("ssh_agent_failed", message)
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
            "repo_token_invalid", "repo_token is not a usable ssh key; give a private key without a passphrase."
        )


def filled_pipe(data: bytes) -> int:
    """Return the reading end of a pipe that contains ``data``, at most ``MAX_TOKEN_BYTES``, and then ends."""
    read, write = os.pipe()
    try:
        os.write(write, data)
    finally:
        os.close(write)
    return read
