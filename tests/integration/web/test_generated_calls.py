"""Calls that schemathesis generates from the API's document, as a member and as an operator, to a real server.

It runs all its checks and phases: values at and beyond each bound, random values, and sequences of calls. Only the web
process runs, so no job is dispatched, no container is created and no callback is sent: nothing leaves this machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest
from django.test import Client

from myctobot.tenants.models import ApiKey, Role, Tenant
from tests.factories import api_world
from tests.factories.control_plane import make_operator
from tests.fixtures.api_document import operations
from tests.fixtures.http_process import WEB, HttpProcess, http_process
from tests.fixtures.remote_control import worker
from tests.fixtures.schemathesis.run import ApiCaller, Run, run_schemathesis

ROLES: Final = ("member", "operator")
# A run with the same seed makes the same calls until an answer differs.
SEED: Final = 20261130
CASES_OF_A_LONG_RUN: Final = 3000
CSRF_TOKEN: Final = "c" * 32
# All calls come from one address with one key, and much faster than those of a real caller.
LIMITS: Final = {f"CALLS_PER_MINUTE_PER_{name}": "1000000" for name in ("KEY", "TENANT", "ADDRESS")}

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def tenant(transactional_db: None) -> Tenant:
    return api_world.make_api_world()


@pytest.fixture
def web(tenant: Tenant) -> Iterator[HttpProcess]:
    """Start the web process, and let the workers of all shards answer, without which a call waits for 3 s."""
    with ExitStack() as stack:
        for name in api_world.SHARDS:
            answers: dict[str, Any] = {
                "ping": {"ok": "pong"},
                "capabilities": {"shard": name},
                "tail_log": ["line"],
                "refresh": None,
            }
            stack.enter_context(worker(f"shard-{name}@host", **answers))
        yield stack.enter_context(http_process(WEB, LIMITS))


def caller_of(role: str, tenant: Tenant) -> ApiCaller:
    if role == "member":
        # An admin is a member with all rights, so its calls reach most code.
        return ApiCaller({"ApiKey": {"bearer": ApiKey.create(tenant, "generated", role=Role.ADMIN)[1]}})
    browser = Client()
    browser.force_login(make_operator())
    session = browser.cookies["sessionid"].value
    return ApiCaller({"cookieAuth": {"api_key": session}, "csrfToken": {"api_key": CSRF_TOKEN}}, CSRF_TOKEN)


def tags_of(role: str) -> set[str]:
    """Return the tags of the calls that a role may make: a key opens no call of operators."""
    return {
        operation["tags"][0]
        for _, _, operation in operations()
        if ({"ApiKey": []} in operation["security"]) == (role == "member")
    }


def run(folder: Path, web: HttpProcess, tenant: Tenant, role: str, seed: int, options: Sequence[str]) -> Run:
    return run_schemathesis(
        folder,
        f"http://127.0.0.1:{web.port}",
        caller_of(role, tenant),
        facts=api_world.names_by_format(),
        options=[f"--seed={seed}", *options],
        timeout_s=1500,
    )


def check(found: Run, cases: int) -> None:
    report = found.report
    # The output has the seed, and a command that repeats each call with a finding.
    assert (report["complete"], report["errors"], report["failures"]) == (True, [], []), found.output
    assert report["test_cases"]["generated"] >= cases


@pytest.mark.parametrize("role", ROLES)
def test_each_role_makes_its_own_calls(role: str, web: HttpProcess, tenant: Tenant, tmp_path: Path) -> None:
    options = ["--max-examples=1", *(f"--include-tag={tag}" for tag in sorted(tags_of(role)))]
    found = run(tmp_path, web, tenant, role, SEED, options)
    check(found, cases=500)
    # Otherwise errors alone would be checked.
    assert len(found.accepted) > found.report["operations"]["tested"] / 2, found.accepted


# Each run takes minutes of a core.
@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("role", ROLES)
def test_thousands_of_calls_by_each_role(role: str, web: HttpProcess, tenant: Tenant, tmp_path: Path) -> None:
    check(run(tmp_path, web, tenant, role, SEED + 1, ["--max-examples=20"]), cases=CASES_OF_A_LONG_RUN)
