"""Names of classes and queues, and checks of branches, URLs and addresses."""

from __future__ import annotations

import pytest

from myctobot.contract.addresses import is_public_address
from myctobot.contract.limits import MAX_BRANCH_LENGTH, MAX_URL_LENGTH
from myctobot.contract.names import is_slug
from myctobot.contract.repositories import branch_pair_problem, branch_problem, repo_url_problem
from myctobot.contract.shards import class_queue, shard_class, shard_queue


@pytest.mark.parametrize("name", ["git", "a", "9", "mcp-jira", "a" * 40, "a1-b2"])
def test_slugs(name: str) -> None:
    assert is_slug(name)


@pytest.mark.parametrize(
    "name", ["", "Git", "-git", "git-", "a" * 41, "a_b", "a.b", "a+b", "a@b", "a b", "é", "git\n", "\x00", "cap.git"]
)
def test_invalid_slugs(name: str) -> None:
    assert not is_slug(name)


def test_the_order_of_capabilities_does_not_change_the_class() -> None:
    assert shard_class(["git", "filesystem", "git"]) == "filesystem+git"
    assert class_queue(["git", "filesystem"]) == "cap.filesystem+git"


def test_a_pool_is_part_of_the_class() -> None:
    assert class_queue(["playwright", "git", "browser"], "premium") == "cap.browser+git+playwright@premium"


@pytest.mark.parametrize(("capabilities", "pool"), [([], None), (["Git"], None), (["git"], "Premium"), (["a+b"], None)])
def test_invalid_classes_are_refused(capabilities: list[str], pool: str | None) -> None:
    with pytest.raises(ValueError, match=r"slug|capability"):
        class_queue(capabilities, pool)


def test_the_names_of_class_queues_and_shard_queues_differ() -> None:
    assert shard_queue("local") == "shard.local"
    assert not class_queue(["git"]).startswith("shard.")


@pytest.mark.parametrize(
    "name",
    [
        "main",
        "feature/PROJ-123",
        "a",
        "a/b/c",
        "über",
        "v1.2",
        "a-b_c",
        "x" * MAX_BRANCH_LENGTH,
        "ü" * 100,
        "a/-b",
        "HEADS",
    ],
)
def test_branches_that_are_accepted(name: str) -> None:
    assert branch_problem(name) is None


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("", "1 to 200 bytes"),
        ("ü" * 101, "1 to 200 bytes"),
        ("x" * (MAX_BRANCH_LENGTH + 1), "1 to 200"),
        ("-x", "dash"),
        ("--upload-pack=touch", "dash"),
        ("a..b", "'..'"),
        ("../../etc", "'..'"),
        ("a b", "spaces"),
        ("a\nb", "control"),
        ("a\x00b", "control"),
        ("a\x7fb", "control"),
        ("a\u2028b", "printable"),
        ("a\u202eb", "printable"),
        ("a\ud800b", "printable"),
        ("a~1", "any of"),
        ("a^", "any of"),
        ("a:b", "any of"),
        ("a?b", "any of"),
        ("a*", "any of"),
        ("a[b", "any of"),
        ("a\\b", "any of"),
        ("@{-1}", "@{"),
        ("a//b", "//"),
        ("/a", "plain branch"),
        ("a/", "plain branch"),
        ("a.", "plain branch"),
        ("@", "plain branch"),
        ("HEAD", "plain branch"),
        ("refs/heads/main", "plain branch"),
        (".a", "dot"),
        ("a/.b", "dot"),
        ("a.lock", "lock"),
        ("a.lock/b", "lock"),
    ],
)
def test_invalid_branches(name: str, word: str) -> None:
    assert word in (branch_problem(name) or "")


@pytest.mark.parametrize(
    ("branch", "base", "word"),
    [
        ("main", "main", "must differ from the base branch 'main'"),
        ("main/x", "main", "cannot exist together with the base branch 'main'"),
        ("a", "a/b/c", "cannot exist together with the base branch 'a/b/c'"),
    ],
)
def test_branches_that_cannot_exist_together_with_their_base(branch: str, base: str, word: str) -> None:
    assert word in (branch_pair_problem(branch, base) or "")


@pytest.mark.parametrize(("branch", "base"), [("feature/x", "main"), ("mainly", "main"), ("a/b", "a/c"), ("A/b", "a")])
def test_branches_that_can_exist_together_with_their_base(branch: str, base: str) -> None:
    assert branch_pair_problem(branch, base) is None


SCHEMES = ("https", "ssh")


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/user/repo.git",
        "https://github.com:8443/user/repo",
        "HTTPS://GitHub.com/user/repo",
        "ssh://git@github.com/user/repo.git",
        "ssh://github.com:2222/user/repo.git",
        "https://[2606:4700::1]/user/repo",
        "https://a.b-c.example/~user/repo%20x.git",
    ],
)
def test_repositories_that_are_accepted(url: str) -> None:
    assert repo_url_problem(url, SCHEMES) is None


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "characters"),
        ("https://h/" + "x" * MAX_URL_LENGTH, "characters"),
        ("--upload-pack=touch /tmp/x;", "spaces"),
        ("--upload-pack=touch", "option"),
        ("-oProxyCommand=x", "option"),
        ("ext::sh -c touch% x", "spaces"),
        ("ext::sh", "remote helpers"),
        ("fd::17", "remote helpers"),
        ("transport::https://h/x", "remote helpers"),
        ("git@github.com:user/repo.git", "ssh://user@host/path"),
        ("/etc/passwd", "with a scheme"),
        ("../other", "with a scheme"),
        ("C:/repo", "with a scheme"),
        ("github.com/user/repo", "with a scheme"),
        ("file:///srv/repo.git", "scheme 'file'"),
        ("http://github.com/user/repo", "scheme 'http'"),
        ("git://github.com/user/repo", "scheme 'git'"),
        ("ftp://github.com/user/repo", "scheme 'ftp'"),
        ("javascript://github.com/x", "scheme 'javascript'"),
        ("https://user:pass@github.com/user/repo", "user name or password"),
        ("https://token@github.com/user/repo", "user name or password"),
        ("https://:pass@github.com/user/repo", "user name or password"),
        ("ssh://git:pass@github.com/user/repo", "user name or password"),
        ("ssh://-oProxyCommand=x/repo", "host"),
        ("ssh://-x@github.com/repo", "user name"),
        ("https:///user/repo", "host"),
        ("https://-host/user/repo", "host"),
        ("https://ho_st/user/repo", "host"),
        ("https://gïthub.com/user/repo", "host"),
        ("https://github.com", "name a repository"),
        ("https://github.com/", "name a repository"),
        ("https://github.com/../x", "'..'"),
        ("https://github.com/a/..", "'..'"),
        ("https://github.com/a?b=c", "a query"),
        ("https://github.com/a#b", "a query"),
        ("https://github.com:port/a", "well-formed"),
        ("https://github.com:99999/a", "well-formed"),
        ("https://[::1/a", "well-formed"),
        ("https://github.com/a\nb", "control"),
        ("https://github.com/a\x00b", "control"),
        ("https://github.com/a b", "spaces"),
        ("https://github.com/a'b", "quotes"),
        ("https://github.com/a`b`", "quotes"),
        ("https://github.com\\@evil/a", "backslashes"),
        ("https://github.com/a\u202eb", "control"),
    ],
)
def test_invalid_repositories(url: str, words: str) -> None:
    assert words in (repo_url_problem(url, SCHEMES) or "")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("file:///srv/repos/repo.git", None),
        ("FILE:///srv/repos/repo.git/", None),
        ("file:///srv/repos/a%20b/caf\u00e9.git", None),
        ("file:///srv/repos/..repo/%2e.git", None),
        ("file:///other/repo.git", None),
        ("file://host/srv/repos/repo.git", "a host"),
        ("file://localhost/srv/repos/repo.git", "a host"),
        ("file:///srv/../etc", "'..'"),
        ("file://", "name a repository"),
        ("file:///srv/repos/repo?x", "a query"),
        ("file:///srv/repos", "outside the folders"),
        ("file:///srv/repos/", "outside the folders"),
        ("file:///srv/repos.git", "outside the folders"),
        ("file:///srv/repos-private/repo.git", "outside the folders"),
        ("file:///srv/Repos/repo.git", "outside the folders"),
        ("file:///etc", "outside the folders"),
        ("file:///srv/repos/%2e%2e/private.git", "plain absolute path"),
        ("file:///srv/repos/%2E./private.git", "plain absolute path"),
        ("file:///srv/repos/x%2f..%2f..%2fprivate.git", "plain absolute path"),
        ("file:///srv/repos/./repo.git", "plain absolute path"),
        ("file:///srv/repos//repo.git", "plain absolute path"),
        ("file:////srv/repos/repo.git", "plain absolute path"),
        ("file:///srv/repos/repo.git//", "plain absolute path"),
        ("file:///srv/repos/repo%00.git", "plain absolute path"),
        ("file:///srv/repos/repo%0a.git", "plain absolute path"),
        ("file:///srv/repos/%ff.git", "plain absolute path"),
        ("file:///srv/repos%2frepo.git", None),
    ],
)
def test_file_urls_are_below_an_open_folder(url: str, words: str | None) -> None:
    problem = repo_url_problem(url, SCHEMES, ("/srv/repos", "/other"))
    assert problem is None if words is None else words in (problem or "")


@pytest.mark.parametrize("schemes", [SCHEMES, ("file",)])
def test_file_urls_are_refused_without_an_open_folder(schemes: tuple[str, ...]) -> None:
    assert "scheme 'file'" in (repo_url_problem("file:///srv/repo.git", schemes) or "")


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "140.82.121.3",
        "192.88.98.255",
        "192.88.100.0",
        "3fff:1000::1",
        "2001:200::1",
        "2606:4700:4700::1111",
        "64:ff9b::8.8.8.8",
        "::ffff:8.8.8.8",
    ],
)
def test_public_addresses(address: str) -> None:
    assert is_public_address(address)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",  # noqa: S104  # an address in a table, nothing binds it
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "192.0.0.9",
        "192.0.2.1",
        "192.31.196.1",
        "192.88.99.0",
        "192.88.99.1",
        "192.88.99.255",
        "192.175.48.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "2001:0:4136:e378:8000:63bf:f5ff:fffe",
        "2001:1::1",
        "2001:db8::1",
        "2002:c058:6301::1",
        "2620:4f:8000::1",
        "3fff::",
        "3fff::1",
        "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff",
        "64:ff9b::192.88.99.1",
        "::ffff:192.88.99.1",
        "fc00::1",
        "fd12::1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public_address(address)
