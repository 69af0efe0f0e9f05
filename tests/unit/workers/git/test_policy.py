from __future__ import annotations

import asyncio

import pytest

from workers.errors import JobError
from workers.git.policy import GitPolicy, Remote, RepoSpec, address_problem, check_spec, locate

URL = "https://github.com/user/repo.git"


def spec(url: str = URL, base: str | None = "main", branch: str = "feature/x") -> RepoSpec:
    return RepoSpec(url, base, branch, "token-1234")


def test_an_ordinary_job_passes() -> None:
    check_spec(spec(), GitPolicy())


@pytest.mark.parametrize(
    ("job", "code", "field"),
    [
        (spec(url="ext::sh -c id"), "repo_url_invalid", "repo_url"),
        (spec(url="file:///srv/repo"), "repo_url_invalid", "repo_url"),
        (spec(branch="a..b"), "branch_invalid", "branch "),
        (spec(base="-x"), "branch_invalid", "base_branch "),
        (spec(branch="main"), "branch_invalid", "branch "),
        (spec(branch="main/x"), "branch_invalid", "branch "),
        (spec(base="release/1", branch="release"), "branch_invalid", "branch "),
    ],
)
def test_a_refusal_names_the_field(job: RepoSpec, code: str, field: str) -> None:
    with pytest.raises(JobError) as caught:
        check_spec(job, GitPolicy())
    assert caught.value.code == code
    assert str(caught.value).startswith(field)


def test_the_token_is_not_in_the_repr() -> None:
    assert "token-1234" not in repr(spec())


@pytest.mark.parametrize(
    ("addresses", "allowed", "refused"),
    [
        (["140.82.112.3"], [], False),
        (["140.82.112.3", "10.0.0.1"], [], True),
        (["::ffff:10.0.0.1"], [], True),
        (["10.0.0.1"], ["git.corp"], False),
        (["10.0.0.1"], ["GIT.corp"], False),
        (["10.0.0.1"], ["corp"], True),
    ],
)
def test_one_private_address_refuses_a_host(addresses: list[str], allowed: list[str], refused: bool) -> None:
    assert (address_problem("git.corp", addresses, allowed) is not None) == refused


@pytest.mark.parametrize(
    ("remote", "expected"),
    [
        (Remote(URL, "https", "github.com", 443, ("1.2.3.4",)), "github.com:443:1.2.3.4"),
        (Remote(URL, "https", "h", 8443, ("1.2.3.4", "2a00::1")), "h:8443:1.2.3.4,[2a00::1]"),
    ],
)
def test_a_connection_is_bound_to_the_address_in_curls_format(remote: Remote, expected: str) -> None:
    assert remote.curl_resolve == expected


@pytest.mark.parametrize("failure", [OSError("no such host"), []])
def test_an_unknown_host_may_be_retried(failure: OSError | list[str]) -> None:
    async def resolver(host: str, port: int) -> list[str]:
        if isinstance(failure, OSError):
            raise failure
        return failure

    with pytest.raises(JobError) as caught:
        asyncio.run(locate(URL, GitPolicy(), resolver))
    assert (caught.value.code, caught.value.retryable) == ("repo_unreachable", True)


def test_an_address_needs_no_resolver() -> None:
    async def resolver(host: str, port: int) -> list[str]:
        raise AssertionError("asked")

    remote = asyncio.run(locate("ssh://git@140.82.112.3:2222/a.git", GitPolicy(), resolver))
    assert (remote.port, remote.addresses) == (2222, ("140.82.112.3",))


def test_a_proxy_resolves_names_and_private_addresses_stay_refused() -> None:
    async def resolver(host: str, port: int) -> list[str]:
        raise AssertionError("asked")

    policy = GitPolicy(proxy_url="http://10.0.0.1:3128")
    assert asyncio.run(locate(URL, policy, resolver)).addresses == ()
    with pytest.raises(JobError, match="private address"):
        asyncio.run(locate("https://10.0.0.7/r.git", policy, resolver))
