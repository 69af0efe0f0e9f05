from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from workers.errors import JobError
from workers.git.credentials import Token, filled_pipe, parse_token, ssh_command
from workers.git.policy import GitPolicy, Remote


@pytest.mark.parametrize(
    ("text", "user", "password"),
    [
        ("ghp_abc", "x-access-token", "ghp_abc"),
        (" ghp_abc\n", "x-access-token", "ghp_abc"),
        ("oauth2:glpat-1", "oauth2", "glpat-1"),
        ("me@corp.com:pa:ss", "me@corp.com", "pa:ss"),
        ("ghp_abc:x-oauth-basic", "x-access-token", "ghp_abc"),
        ("ghp_abc:", "x-access-token", "ghp_abc"),
    ],
)
def test_a_token_may_name_its_user(text: str, user: str, password: str) -> None:
    assert parse_token(text) == Token(user, password)
    assert password not in repr(parse_token(text))


@pytest.mark.parametrize("text", ["", " ", "a\nb", "a\x00b", "us er:x", "a'b:x", "x" * 20_000, "-----BEGIN X-----\n"])
def test_an_impossible_token_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(JobError, match="repo_token") as caught:
        parse_token(text)
    assert caught.value.code == "repo_token_invalid"


@pytest.mark.parametrize(("port", "alias"), [(22, "git.corp"), (2222, "[git.corp]:2222")])
def test_ssh_connects_to_the_checked_address_and_verifies_the_hosts_own_key(port: int, alias: str) -> None:
    remote = Remote("ssh://git@git.corp/r", "ssh", "git.corp", port, ("1.2.3.4",))
    words = shlex.split(
        ssh_command(remote, GitPolicy(known_hosts=Path("/a b/known")), Path("/run/agent"), Path("/run/log"))
    )
    assert words[:3] == ["ssh", "-F", "/dev/null"]
    for option in ("HostName=1.2.3.4", f"HostKeyAlias={alias}", 'UserKnownHostsFile="/a b/known"', "BatchMode=yes",
                   "StrictHostKeyChecking=yes", "ForwardAgent=no", "IdentityFile=none"):  # fmt: skip
        assert option in words


def test_a_filled_pipe_gives_its_data_once() -> None:
    end = filled_pipe(b"secret")
    try:
        assert os.read(end, 100) == b"secret"
        assert os.read(end, 100) == b""
    finally:
        os.close(end)
