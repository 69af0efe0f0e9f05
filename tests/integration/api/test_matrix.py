"""Every URL, called by every kind of caller; a new URL needs a row here.

The columns are a member, a viewer, an admin, a member of another tenant, an operator without a tenant, and an anonymous
caller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.urls import URLPattern, get_resolver

from jobs.api.urls import urlpatterns as job_patterns
from jobs.callbacks.models import Callback
from jobs.lifecycle.cancel import cancel
from myctobot.dashboards.urls import urlpatterns as console_patterns
from myctobot.tenants.api.urls import urlpatterns as tenant_patterns
from myctobot.tenants.models import RepositoryPolicy, Role, Tenant
from myctobot.tenants.secrets import store_secret
from shards.api.urls import urlpatterns as shard_patterns
from shards.models import Shard
from tests.factories.control_plane import Api, bound_to_repository, make_job, make_member, make_operator
from tests.factories.kept_work import job_with_work

pytestmark = pytest.mark.django_db

EVERYBODY_OF_THE_TENANT = (200, 200, 200, 404, 403, 401)
WRITERS = (200, 403, 200, 404, 403, 401)
OPERATORS = (403, 403, 403, 403, 200, 401)
NEW_SECRET = {"name": "new", "value": "ghp_0123456789", "purpose": "repository", "hosts": ["github.com"]}
NEW_SHARD = {"name": "new", "capabilities": ["git"]}
POLICY = {"repository": "git.example.com/user/repo", "allow_ci_files": True, "allow_default_branch": False}
BODY = {"task": {"type": "prompt", "prompt": "x"}, "capabilities": ["git"]}

# By the address's name: the method, a body, and what each of them gets.
API: dict[str, list[tuple[str, Any, tuple[int, ...]]]] = {
    "jobs": [("get", None, (200, 200, 200, 200, 403, 401)), ("post", BODY, (201, 403, 201, 201, 403, 401))],
    "job-estimate": [("post", {"capabilities": ["git"]}, (200, 200, 200, 200, 403, 401))],
    "job": [("get", None, EVERYBODY_OF_THE_TENANT)],
    "job-cancel": [("post", None, WRITERS)],
    "job-retry": [("post", None, (201, 403, 201, 404, 403, 401))],
    "job-push": [("post", None, (201, 403, 201, 404, 403, 401))],
    "job-bundle": [("get", None, EVERYBODY_OF_THE_TENANT)],
    "job-patch": [("get", None, EVERYBODY_OF_THE_TENANT)],
    "job-events": [("get", None, EVERYBODY_OF_THE_TENANT)],
    "job-download": [("get", None, EVERYBODY_OF_THE_TENANT)],
    "job-ticket": [("post", None, EVERYBODY_OF_THE_TENANT)],
    "job-stream": [("get", None, EVERYBODY_OF_THE_TENANT)],
    "job-callbacks": [("get", None, EVERYBODY_OF_THE_TENANT)],
    "job-callback-resend": [("post", None, (202, 403, 202, 404, 403, 401))],
    # The other tenant's member is no admin there either.
    "callback-secret": [("get", None, (403, 403, 200, 403, 403, 401)), ("post", None, (403, 403, 200, 403, 403, 401))],
    "repository-policies": [
        ("get", None, (200, 200, 200, 200, 403, 401)),
        ("put", POLICY, (403, 403, 200, 403, 403, 401)),
        # The call names no repository; only an admin gets that error.
        ("delete", None, (403, 403, 400, 403, 403, 401)),
    ],
    "queues": [("get", None, OPERATORS)],
    "queue-pause": [("post", {"shard_class": "filesystem+git", "reason": "x"}, OPERATORS)],
    "queue-resume": [("post", {"shard_class": "filesystem+git"}, (403, 403, 403, 403, 409, 401))],
    "shard-drain": [("post", {"reason": "x"}, OPERATORS)],
    "shard-resume": [("post", None, (403, 403, 403, 403, 409, 401))],
    "suspensions": [("get", None, OPERATORS)],
    # The call names no tenant and no capability; only an operator gets that error.
    "shard-preview": [("get", None, (403, 403, 403, 403, 400, 401))],
    "shards": [("get", None, OPERATORS), ("post", NEW_SHARD, (403, 403, 403, 403, 201, 401))],
    "shard": [
        ("get", None, OPERATORS),
        ("patch", {"description": "x"}, OPERATORS),
        # It reports, so it stays.
        ("delete", None, (403, 403, 403, 403, 409, 401)),
    ],
    # Nothing runs behind it: the log has no answer, and a test says so.
    "shard-test": [("post", None, OPERATORS)],
    "shard-logs": [("get", None, (403, 403, 403, 403, 409, 401))],
    "shard-samples": [("get", None, OPERATORS)],
    "shard-operations": [
        ("get", None, OPERATORS),
        # The shard has no provider, so it cannot be restarted.
        ("post", {"kind": "restart"}, (403, 403, 403, 403, 409, 401)),
    ],
    "shard-assignments": [("get", None, OPERATORS), ("put", {"assignments": []}, OPERATORS)],
    "shard-enrolment": [("post", None, (403, 403, 403, 403, 201, 401))],
    "shard-activate": [("post", None, (403, 403, 403, 403, 409, 401))],
    "shard-templates": [("get", None, OPERATORS)],
    "pools": [("get", None, OPERATORS)],
    "audit": [("get", None, OPERATORS)],
    # The other tenant's member lists that tenant's secrets.
    "secrets": [("get", None, (200, 403, 200, 200, 403, 401)), ("post", NEW_SECRET, (403, 403, 201, 403, 403, 401))],
    "secret": [
        ("get", None, (200, 403, 200, 404, 403, 401)),
        ("patch", {"min_role": "admin"}, (403, 403, 200, 403, 403, 401)),
        ("delete", None, (403, 403, 204, 403, 403, 401)),
    ],
}
OF_KEPT_WORK = {"job-push", "job-bundle", "job-patch", "console-job-push"}
# The console redirects anonymous users to the login and refuses users who may not write.
PAGES = (200, 200, 200, 404, 403, 302)
CONSOLE: dict[str, list[tuple[str, Any, tuple[int, ...]]]] = {
    "console-jobs": [("get", None, (200, 200, 200, 200, 403, 302))],
    "console-job-new": [("get", None, (200, 403, 200, 200, 403, 302))],
    "console-job": [("get", None, PAGES)],
    "console-job-header": [("get", None, PAGES)],
    "console-job-cancel": [("post", None, (302, 403, 302, 404, 403, 302))],
    "console-job-push": [("post", None, (302, 403, 302, 404, 403, 302))],
    "console-job-retry": [("get", None, (200, 403, 200, 404, 403, 302))],
    "console-secrets": [("get", None, (403, 403, 200, 403, 403, 302))],
    "console-secret": [("get", None, (403, 403, 200, 403, 403, 302))],
    "console-secret-remove": [("post", None, (403, 403, 302, 403, 403, 302))],
    # All members see the policies; the other tenant's member sees that tenant's.
    "console-policies": [("get", None, (200, 200, 200, 200, 403, 302)), ("post", None, (403, 403, 400, 403, 403, 302))],
    "console-policy": [("get", None, (403, 403, 200, 403, 403, 302))],
    "console-policy-remove": [("post", None, (403, 403, 302, 403, 403, 302))],
    "console-callback-resend": [("post", None, (302, 403, 302, 404, 403, 302))],
}
# These are for everybody, and have tests of their own.
OPEN = {None, "login", "logout", "console-tenant", "console-estimate"}


def names(patterns: list[Any]) -> set[str | None]:
    return {pattern.name for pattern in patterns if isinstance(pattern, URLPattern)}


def test_every_address_is_in_the_tables() -> None:
    assert names(job_patterns + shard_patterns + tenant_patterns) == set(API), "say in API who may use the new address"
    assert names(console_patterns) - OPEN == set(CONSOLE), "say in CONSOLE who may use the new page"


def cases() -> Iterator[Any]:
    for table in (API, CONSOLE):
        for name, calls in table.items():
            for method, body, expected in calls:
                yield pytest.param(name, method, body, expected, id=f"{name} {method}")


@pytest.fixture
def path_of(tenant: Tenant, shard: Shard, key: str) -> Any:
    """A finished job with a callback, a policy, a secret and a shard with one name, for the ids in an address."""
    store_secret(tenant, "one", "ghp_0123456789", bound_to_repository())
    job = make_job(tenant, callback_url="https://ci.example.com/hook")
    cancel(tenant, job.public_id)
    policy = RepositoryPolicy.objects.create(tenant=tenant, repository="git.example.com/user/one")
    values = {
        "job_id": job.public_id,
        "callback_id": Callback.objects.get().public_id,
        "policy_id": policy.pk,
        "name": "one",
    }

    def path(name: str) -> str:
        ((template, needed),) = [found[0][0] for found in get_resolver().reverse_dict.getlist(name)][:1]
        if name in OF_KEPT_WORK:
            values["job_id"] = job_with_work(tenant, key).public_id
        filled: str = template % {one: values[one] for one in needed}
        return f"/{filled}"

    return path


@pytest.mark.parametrize(("name", "method", "body", "expected"), list(cases()))
@pytest.mark.parametrize("who", range(6), ids=["member", "viewer", "admin", "outsider", "operator", "nobody"])
def test_who_may(
    name: str, method: str, body: Any, expected: tuple[int, ...], who: int, tenant: Tenant, path_of: Any,
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    people: list[Callable[[], User | None]] = [
        lambda: request.getfixturevalue("teammate").user,
        lambda: make_member(tenant, "v", Role.VIEWER),
        lambda: make_member(tenant, "a", Role.ADMIN),
        lambda: request.getfixturevalue("outsider").user,
        lambda: make_operator("op"),
        lambda: None,
    ]
    person = people[who]()
    client = Api.session(person) if person else Api()
    client.prefix = ""
    answer = client.get(path_of(name)) if method == "get" else client.send(method, path_of(name), body)
    assert answer.status_code == expected[who], f"{name} {method}"


@pytest.mark.parametrize("name", API)
def test_a_shards_key_opens_nothing_of_the_api(name: str, key: str, path_of: Any) -> None:
    client = Api(key)
    client.prefix = ""
    assert client.get(path_of(name)).status_code in (401, 405)
