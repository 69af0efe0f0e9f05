"""Decision whether a stored secret may be used."""

from __future__ import annotations

import pytest

from myctobot.tenants.secret_bindings import (
    MAX_HOSTS,
    UNBOUND,
    SecretBinding,
    SecretPurpose,
    SecretUse,
    binding_problems,
    host_list,
    use_problem,
)

MEMBER, ADMIN = frozenset({"viewer", "member"}), frozenset({"viewer", "member", "admin"})
GITHUB = "https://github.com/user/repo.git"


def for_repository(*hosts: str, min_role: str = "member") -> SecretBinding:
    return SecretBinding(SecretPurpose.REPOSITORY, hosts, min_role)


def clone(url: str, roles: frozenset[str] = MEMBER) -> SecretUse:
    return SecretUse(SecretPurpose.REPOSITORY, roles, url)


@pytest.mark.parametrize(
    ("host", "url", "allowed"),
    [
        ("github.com", GITHUB, True),
        ("github.com", "https://GitHub.com./u/r", True),
        ("github.com", "ssh://git@github.com/u/r", True),
        ("github.com", "https://github.com:443/u/r", True),
        ("github.com", "https://github.com:8443/u/r", False),
        ("github.com", "ssh://git@github.com:2222/u/r", False),
        ("github.com", "https://evil-github.com/u/r", False),
        ("github.com", "https://github.com.evil.org/u/r", False),
        ("github.com", "https://github.com@evil.org/u/r", False),
        ("github.com", "https://evil.org/github.com", False),
        ("github.com", "http://github.com/u/r", False),
        ("git.example.com:8443", "https://git.example.com:8443/u/r", True),
        ("git.example.com:8443", "https://git.example.com/u/r", False),
        ("*.example.com", "https://git.example.com/u/r", True),
        ("*.example.com", "https://a.b.example.com/u/r", True),
        ("*.example.com", "https://example.com/u/r", False),
        ("*.example.com", "https://evilexample.com/u/r", False),
        ("*.example.com", "https://git.example.com:444/u/r", False),
        ("[2001:db8::1]:8443", "https://[2001:db8::1]:8443/u/r", True),
        ("github.com", "file:///srv/repo", False),
        ("github.com", "https://github.com:x/u/r", False),
        ("github.com", "", False),
    ],
)
def test_a_secret_of_a_repository_is_sent_to_its_hosts_only(host: str, url: str, *, allowed: bool) -> None:
    problem = use_problem(for_repository(host), clone(url))
    assert (problem is None) is allowed
    assert problem is None or problem.startswith(f"may be sent to {host} only, not to ")


@pytest.mark.parametrize("purpose", [p for p in SecretPurpose if p not in (SecretPurpose.UNBOUND, "repository")])
def test_a_secret_is_used_for_its_purpose_only(purpose: SecretPurpose) -> None:
    binding = SecretBinding(purpose, min_role="member")
    assert use_problem(binding, SecretUse(purpose, MEMBER)) is None
    assert f"is for the purpose '{purpose}', not 'repository'" in str(use_problem(binding, clone(GITHUB, ADMIN)))
    assert "not" in str(use_problem(for_repository("github.com"), SecretUse(purpose, ADMIN)))


@pytest.mark.parametrize(
    ("min_role", "roles", "allowed"),
    [("admin", ADMIN, True), ("admin", MEMBER, False), ("member", MEMBER, True), ("member", frozenset(), False)],
)
def test_a_secret_is_used_by_its_roles_only(min_role: str, roles: frozenset[str], *, allowed: bool) -> None:
    problem = use_problem(for_repository("github.com", min_role=min_role), clone(GITHUB, roles))
    assert (problem is None) is allowed


def test_a_role_that_may_not_use_a_secret_learns_nothing_else_of_it() -> None:
    problem = str(use_problem(for_repository("internal.example.com", min_role="admin"), clone(GITHUB)))
    assert "internal" not in problem
    assert "repository" not in problem


@pytest.mark.parametrize(("roles", "allowed"), [(ADMIN, True), (MEMBER, False), (frozenset(), False)])
def test_an_unbound_secret_is_for_admins(roles: frozenset[str], *, allowed: bool) -> None:
    assert (use_problem(UNBOUND, clone(GITHUB, roles)) is None) is allowed


@pytest.mark.parametrize(
    ("binding", "field"),
    [
        (UNBOUND, "purpose"),
        (for_repository(), "hosts"),
        (SecretBinding(SecretPurpose.PROVIDER, ("github.com",)), "hosts"),
        (for_repository(*[f"h{number}.example.com" for number in range(MAX_HOSTS + 1)]), "hosts"),
    ],
)
def test_an_incomplete_binding_is_named_by_its_field(binding: SecretBinding, field: str) -> None:
    assert list(binding_problems(binding)) == [field]


@pytest.mark.parametrize(
    "host", ["github.com", "git.example.com:8443", "*.example.com", "*.example.com:2222", "[::1]:9"]
)
def test_hosts_that_are_well_formed(host: str) -> None:
    assert binding_problems(for_repository(host)) == {}


@pytest.mark.parametrize(
    "host",
    ["*", "*.com", "*github.com", "https://github.com", "github.com/", "a b", "GitHub.com", "user@github.com", "-a.com",
     "github.com:", "github.com:0", "github.com:65536", "github.com\n", ".com", "a..b", "x" * 300],
)  # fmt: skip
def test_hosts_that_are_not(host: str) -> None:
    problem = binding_problems(for_repository(host)).get("hosts", "")
    assert "is not a host. Write github.com" in problem
    assert len(problem) < 300


def test_hosts_of_a_text_are_separate_lower_case_and_unique() -> None:
    assert host_list(" GitHub.com, b.example.com\n github.com") == ("github.com", "b.example.com")
