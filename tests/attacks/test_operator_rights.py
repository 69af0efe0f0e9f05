"""Staff without a permission try every call, page and action of operators.

The tables name the permission of each call independently of the code, and a new call of operators needs a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.test import Client, RequestFactory
from django.urls import URLPattern, URLResolver, get_resolver

from myctobot.tenants.authentication import HasTenant, IsOperator
from shards.admin.actions import ACTIONS
from shards.admin.bulk_actions import BULK
from shards.api.base import OperatorView
from shards.models import Pool, Shard
from shards.permissions import VIEW_SHARD
from tests.factories.control_plane import (
    Answer,
    Api,
    error_of,
    make_operator,
    make_shard,
    make_staff,
    make_tenant,
    whole_database,
)

pytestmark = pytest.mark.django_db

Call = tuple[str, Any, set[str]]

VIEW, ADD, CHANGE, DELETE = ({f"shards.{verb}_shard"} for verb in ("view", "add", "change", "delete"))
OF_CLASS: Final = {"shard_class": "filesystem+git", "reason": "x"}
OF_POOL: Final = {"pool": "premium", "reason": "x"}

# By the name of the address: method, body and needed permissions of each call.
CALLS: Final[dict[str, list[Call]]] = {
    "queues": [("get", None, VIEW)],
    "queue-pause": [("post", OF_CLASS, CHANGE), ("post", OF_POOL, {"shards.change_pool"})],
    "queue-resume": [
        ("post", {"shard_class": "filesystem+git"}, CHANGE),
        ("post", {"pool": "premium"}, {"shards.change_pool"}),
    ],
    "shard-preview": [("get", None, VIEW)],
    "shard-drain": [("post", {"reason": "x"}, CHANGE)],
    "shard-resume": [("post", None, CHANGE)],
    "suspensions": [("get", None, {"shards.view_suspension"})],
    "shards": [
        ("get", None, VIEW),
        ("post", {"name": "new", "capabilities": ["git"]}, ADD),
        ("post", {"name": "new", "template": "general", "provider": "memory", "provision": True}, ADD),
    ],
    "shard": [("get", None, VIEW), ("patch", {"description": "x"}, CHANGE), ("delete", None, DELETE)],
    "shard-test": [("post", None, VIEW)],
    "shard-logs": [("get", None, VIEW)],
    "shard-samples": [("get", None, VIEW)],
    "shard-operations": [("get", None, VIEW), ("post", {"kind": "provision"}, CHANGE)],
    "shard-assignments": [
        ("get", None, {"shards.view_assignment"}),
        (
            "put",
            {"assignments": []},
            {"shards.add_assignment", "shards.change_assignment", "shards.delete_assignment"},
        ),
    ],
    "shard-enrolment": [("post", None, CHANGE)],
    "shard-activate": [("post", None, CHANGE)],
    "shard-templates": [("get", None, {"shards.view_shardtemplate"})],
    "pools": [("get", None, {"shards.view_pool"})],
    "audit": [("get", None, {"tenants.view_auditentry"})],
}
PAGES: Final[dict[str, set[str]]] = {
    "/ops/": VIEW,
    "/ops/queues/": VIEW,
    "/ops/operations/": {"shards.view_operation"},
    "/ops/decisions/": {"shards.view_scalingdecision"},
    "/ops/shards/one/": VIEW | {"jobs.view_job"},
    "/ops/flower-auth": VIEW,
    "/metrics": VIEW,
    "/admin/preview/": VIEW,
}


@pytest.fixture(autouse=True)
def shard(db: None) -> Shard:
    make_tenant()
    Pool.objects.create(name="premium")
    return make_shard("one")[0]


ALL_CALLS: Final = [
    pytest.param(name, method, body, needed, id=f"{name} {method} {at}")
    for name, rows in CALLS.items()
    for at, (method, body, needed) in enumerate(rows)
]


def routes() -> Iterator[tuple[str, type[Any]]]:
    """Yield name and view class of each route under ``/api/v1`` that the URL resolver knows."""

    def walk(patterns: list[Any], prefix: str) -> Iterator[tuple[str, type[Any]]]:
        for pattern in patterns:
            path = prefix + str(pattern.pattern)
            if isinstance(pattern, URLResolver):
                yield from walk(pattern.url_patterns, path)
            elif isinstance(pattern, URLPattern) and path.startswith("api/v1/"):
                yield str(pattern.name), pattern.callback.view_class  # type: ignore[attr-defined]  # set by as_view

    yield from walk(get_resolver().url_patterns, "")


def is_for_operators(view: type[Any]) -> bool:
    return not any(issubclass(one, HasTenant) for one in view.permission_classes)


def staff_with_all_but(needed: set[str]) -> User:
    """Create a staff user with all permissions, except the needed ones and those that include them."""
    # The permission to change rows includes viewing them, as in the panel.
    left_out = needed | {name.replace(".view_", ".change_") for name in needed}
    found = Permission.objects.values_list("content_type__app_label", "codename")
    every = {f"{app}.{codename}" for app, codename in found}
    return make_staff("norma", *(every - left_out))


def call(user: User, name: str, method: str, body: Any) -> Answer:
    api = Api.session(user)
    api.prefix = ""
    ((template, arguments),) = get_resolver().reverse_dict.getlist(name)[0][0]
    path = f"/{template % dict.fromkeys(arguments, 'one')}"
    return api.get(path) if method == "get" else api.send(method, path, body)


def test_each_route_is_for_members_or_names_its_permissions() -> None:
    """A view of operators with another base class would escape the check of permissions."""
    found = [view for _, view in routes() if is_for_operators(view)]
    assert found
    assert [view.__name__ for view in found if not issubclass(view, OperatorView)] == []
    assert [view.__name__ for view in found if IsOperator not in view.permission_classes] == []


def test_each_method_of_operators_is_in_the_table() -> None:
    found = {
        (name, method)
        for name, view in routes()
        if is_for_operators(view)
        for method in view.http_method_names
        if method != "options" and hasattr(view, method)
    }
    assert found == {(name, method) for name, rows in CALLS.items() for method, _, _ in rows}, "add a row to CALLS"


def test_a_view_that_names_no_permission_for_a_method_cannot_be_defined() -> None:
    handlers = {"get": lambda *_: None, "delete": lambda *_: None}
    with pytest.raises(TypeError, match=r"Forgetful\.needs names no permission for DELETE$"):
        type("Forgetful", (OperatorView,), {**handlers, "needs": {"GET": (VIEW_SHARD,), "DELETE": ()}})


@pytest.mark.parametrize(("name", "method", "body", "needed"), ALL_CALLS)
def test_staff_without_permissions_are_refused(name: str, method: str, body: Any, needed: set[str]) -> None:
    user = make_staff("norma")
    before = whole_database()
    answer = call(user, name, method, body)
    assert answer.status_code == 403
    error = error_of(answer)
    assert (error["code"], error["retryable"]) == ("missing_permission", False)
    assert needed <= set(error["permissions"])
    assert all(one in error["message"] for one in error["permissions"])
    assert changed(before) == set()


def changed(before: str) -> set[str]:
    """Return the rows that appeared or changed since then, without those of sessions and logins."""
    ignored = ("django_session:", "auth_user:")
    return {row for row in set(whole_database().splitlines()) - set(before.splitlines()) if not row.startswith(ignored)}


@pytest.mark.parametrize(("name", "method", "body", "needed"), ALL_CALLS)
def test_all_other_permissions_together_do_not_suffice(name: str, method: str, body: Any, needed: set[str]) -> None:
    user = staff_with_all_but(needed)
    before = whole_database()
    answer = call(user, name, method, body)
    assert answer.status_code == 403
    assert set(error_of(answer)["permissions"]) == needed
    assert changed(before) == set()


@pytest.mark.parametrize(("name", "method", "body", "needed"), ALL_CALLS)
def test_exactly_the_needed_permission_suffices(name: str, method: str, body: Any, needed: set[str]) -> None:
    assert call(make_staff("olga", *needed), name, method, body).status_code not in (403, 500)


@pytest.mark.parametrize(("name", "method", "body", "needed"), ALL_CALLS)
def test_a_superuser_needs_no_permission(name: str, method: str, body: Any, needed: set[str]) -> None:
    assert call(make_operator(), name, method, body).status_code not in (403, 500)


@pytest.mark.parametrize("lacking", sorted(CALLS["shard-assignments"][1][2]))
def test_each_of_several_needed_permissions_is_checked(lacking: str) -> None:
    answer = call(staff_with_all_but({lacking}), "shard-assignments", "put", {"assignments": []})
    assert (answer.status_code, error_of(answer)["permissions"]) == (403, [lacking])


@pytest.mark.parametrize("name", [name for name, rows in CALLS.items() if rows[0][0] == "get"])
def test_head_is_no_way_around_get(name: str) -> None:
    assert call(make_staff("norma"), name, "head", None).status_code == 403


@pytest.mark.parametrize("method", ["dispatch", "request", "trace", "put"])
def test_a_method_without_a_handler_is_refused_also_if_the_view_has_such_an_attribute(method: str) -> None:
    assert call(make_staff("norma"), "shards", method, None).status_code == 405


@pytest.mark.parametrize("body", [{**OF_CLASS, **OF_POOL}, {**OF_CLASS, "pool": ""}])
def test_a_body_with_two_targets_needs_the_permissions_of_both(body: dict[str, str]) -> None:
    answer = call(make_staff("norma", "shards.change_pool"), "queue-pause", "post", body)
    assert (answer.status_code, error_of(answer)["code"]) in [(403, "missing_permission"), (400, "invalid_request")]
    assert call(make_staff("other", "shards.change_shard"), "queue-pause", "post", body).status_code in (400, 403)


def test_a_permission_through_a_group_counts_and_an_inactive_user_has_none() -> None:
    user, group = make_staff("norma"), Group.objects.create(name="operators")
    group.permissions.add(Permission.objects.get(codename="change_shard"))
    user.groups.add(group)
    assert call(user, "shard-drain", "post", {"reason": "x"}).status_code == 200
    api = Api.session(user)
    user.groups.clear()
    assert api.post("/shards/one/resume").status_code == 403
    User.objects.filter(pk=user.pk).update(is_active=False, is_superuser=True)
    assert api.post("/shards/one/resume").status_code == 401


def test_a_permission_without_the_staff_flag_opens_nothing() -> None:
    user = make_staff("norma", "shards.change_shard")
    User.objects.filter(pk=user.pk).update(is_staff=False)
    answer = call(user, "shard-enrolment", "post", None)
    assert (answer.status_code, error_of(answer)["code"]) == (403, "permission_denied")


@pytest.mark.parametrize(("path", "needed"), PAGES.items(), ids=list(PAGES))
def test_pages_need_the_same_permissions(path: str, needed: set[str]) -> None:
    without, exactly = Client(), Client()
    without.force_login(staff_with_all_but(needed))
    exactly.force_login(make_staff("olga", *needed))
    refusal = without.get(path)
    assert refusal.status_code in (401, 403)
    assert b"filesystem+git" not in refusal.content
    assert exactly.get(path).status_code in (200, 204)


@pytest.mark.parametrize("name", ACTIONS)
def test_the_panel_and_the_api_need_the_same_permission_for_an_action(name: str, shard: Shard) -> None:
    route = {"token": "shard-enrolment", "drain": "shard-drain", "resume": "shard-resume", "activate": "shard-activate"}
    ((needed,),) = [row[2] for row in CALLS[route.get(name, "shard-operations")] if row[0] == "post"]
    path = f"/admin/shards/shard/{shard.pk}/do/{name}/"
    without, exactly = Client(), Client()
    without.force_login(staff_with_all_but({needed}))
    exactly.force_login(make_staff("olga", needed))
    assert (without.post(path, {"reason": "x", "name": "one"}).status_code, exactly.get(path).status_code) == (403, 200)


@pytest.mark.parametrize("action", BULK, ids=lambda action: str(action.__name__))
def test_bulk_actions_of_shards_need_a_permission_of_the_api(action: Any) -> None:
    needed = VIEW if action.__name__ == "test_connectivity" else CHANGE
    page = admin.site.get_model_admin(Shard)
    offered = []
    for user in (staff_with_all_but(needed), make_staff("olga", *needed)):
        request = RequestFactory().get("/")
        request.user = user
        offered.append(action.__name__ in page.get_actions(request))
    assert offered == [False, True]


def test_the_page_that_removes_a_shard_does_not_describe_it(shard: Shard) -> None:
    browser = Client()
    browser.force_login(make_staff("norma"))
    answer = browser.get(f"/admin/shards/shard/{shard.pk}/delete/", follow=True)
    assert answer.status_code == 403
    assert answer.redirect_chain == []
