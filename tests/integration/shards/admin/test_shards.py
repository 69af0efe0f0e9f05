"""Admin pages of shards: list, forms, actions and permissions."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.db.models.functions import Now
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext

from jobs.models import Attempt
from myctobot.tenants.models import AuditEntry, Tenant
from shards.lifecycle.transitions import transition
from shards.models import Assignment, Pool, Shard, ShardState, Suspension
from shards.monitoring.models import ShardSample
from shards.operations.models import Operation, OperationKind, OperationState
from tests.factories.control_plane import make_job, make_shard, make_tenant

pytestmark = pytest.mark.django_db

LIST = "/admin/shards/shard/"
FORM: dict[str, Any] = {
    "name": "pw-1", "shard_type": "general", "provider": "memory", "capabilities": "git,filesystem",
    "max_concurrent_jobs": "1", "is_active": "on", "mcp_servers": "{}", "resource_spec": "{}",
    "assignments-TOTAL_FORMS": "0", "assignments-INITIAL_FORMS": "0",
}  # fmt: skip
RULES = """{"scale_up": {"condition": "%s", "cooldown": "5m"}, "scale_down": {"condition": "shard_idle > 30m",
  "cooldown": "15m"}, "limits": {"min_shards": 1, "max_shards": 3, "max_shards_per_type": 3}}"""


@pytest.fixture
def admin(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("anna"))
    return client


def words(answer: Any) -> str:
    assert isinstance(answer, HttpResponse)
    text = re.sub(r"<(script|style)[^>]*>.*?</\1>", " ", answer.content.decode(), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())


def page(shard: Shard, end: str = "change/") -> str:
    return f"{LIST}{shard.pk}/{end}"


def contained(name: str = "one", **facts: Any) -> Shard:
    """Create a shard with a container of the provider ``memory``."""
    shard, _ = make_shard(name)
    Shard.objects.filter(pk=shard.pk).update(**{"provider": "memory", "provider_ref": "ref-1", **facts})
    shard.refresh_from_db()
    return shard


class TestTheList:
    def test_a_row_says_how_a_shard_is(self, admin: Client) -> None:
        shard, _ = make_shard("one", pool="premium")
        report = {"cpu_percent": 41.6, "memory_mb": 2048, "memory_total_mb": 8192, "slots": 2, "running": ["job_1.1"],
                  "version": "9.9.9"}  # fmt: skip
        Shard.objects.filter(pk=shard.pk).update(report=report, last_heartbeat_at=Now() - timedelta(seconds=4))
        row = words(admin.get(LIST))
        for fact in ("one", "ready", "1 of 2", "42 %", "2.0 of 8.0 GB", "9.9.9", "premium", "none"):
            assert fact in row
        # A busy machine may take some seconds to render the page.
        assert re.search(r"\b([4-9]|1\d) s ago", row)

    def test_a_shard_that_never_reported_is_listed(self, admin: Client) -> None:
        make_shard("new", state=ShardState.REQUESTED, heard=False)
        assert "never" in words(admin.get(LIST))

    def test_more_shards_are_no_more_queries(self, admin: Client) -> None:
        make_shard("one", pool="a")
        with CaptureQueriesContext(connection) as few:
            admin.get(LIST)
        for at in range(30):
            make_shard(f"more-{at}", pool="a")
        with CaptureQueriesContext(connection) as many:
            assert "more-29" in words(admin.get(LIST))
        assert len(many) == len(few)

    def test_it_comes_in_pages(self, admin: Client) -> None:
        for at in range(51):
            make_shard(f"s-{at:02}")
        assert "s-50" not in words(admin.get(LIST))
        assert "s-50" in words(admin.get(f"{LIST}?p=2"))

    @pytest.mark.parametrize("query", ["q=premium", "state__exact=lost", "provider=memory", "is_spare__exact=1"])
    def test_it_is_searched_and_narrowed(self, admin: Client, query: str) -> None:
        make_shard("one")
        pool = Pool.objects.create(name="premium")
        contained("two", state="lost", is_spare=True, pool=pool, shard_class="git@premium")
        text = words(admin.get(f"{LIST}?{query}"))
        assert ("two" in text, " one " in text.replace("Add the first one", "")) == (True, False)


class TestAdding:
    def test_a_template_fills_the_form_in(self, admin: Client) -> None:
        text = admin.get(f"{LIST}add/?template=playwright").content.decode()
        assert 'value="browser,filesystem,git,playwright"' in text
        assert re.search(r'value="playwright"\s+selected', text)

    def test_a_shard_is_added_and_provisioning_is_requested(self, admin: Client) -> None:
        answer = admin.post(f"{LIST}add/", {**FORM, "_provision": "1"}, follow=True)
        assert "Shard pw-1 is added and will be provisioned." in words(answer)
        assert Operation.objects.get().kind == OperationKind.PROVISION
        actions = list(AuditEntry.objects.order_by("pk").values_list("actor", "action"))
        assert actions == [("anna", "shard.created"), ("anna", "shard.provision_requested")]

    def test_without_a_provider_it_is_on_record_and_says_what_is_missing(self, admin: Client) -> None:
        answer = admin.post(f"{LIST}add/", {**FORM, "provider": "", "_provision": "1"}, follow=True)
        assert "Shard pw-1 is added, but not provisioned: Shard pw-1: provision is not possible" in words(answer)

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"name": "Not A Slug"}, "is not a lower-case slug"),
            ({"name": "preview"}, "choose another name"),
            ({"provider": "vmware"}, "vmware is not one of the available choices"),
            ({"mcp_servers": '{"git": {}}'}, "must name the program"),
            ({"resource_spec": '{"cpus": -1}'}, "must be a number from 0.1 to 512"),
            ({"resource_spec": "{"}, "Enter a valid JSON"),
            ({"max_concurrent_jobs": "0"}, "greater than or equal to 1"),
        ],
    )
    def test_a_mistake_is_shown_at_its_field(self, admin: Client, change: dict[str, str], said: str) -> None:
        assert said in words(admin.post(f"{LIST}add/", {**FORM, **change}))
        assert not Shard.objects.exists()


class TestChanging:
    def test_consequences_for_a_running_shard_are_shown(self, admin: Client) -> None:
        shard, _ = make_shard("one")
        text = words(admin.post(page(shard), {**FORM, "provider": "", "capabilities": "git"}, follow=True))
        assert "Its queue is cap.git now" in text
        shard.refresh_from_db()
        assert (shard.name, shard.shard_class) == ("one", "git")
        assert AuditEntry.objects.get().details["capabilities"] == {"was": ["filesystem", "git"], "is": ["git"]}

    def test_a_container_keeps_its_provider(self, admin: Client) -> None:
        shard = contained()
        admin.post(page(shard), {**FORM, "provider": "lxc"})
        shard.refresh_from_db()
        assert shard.provider == "memory"

    def test_an_assignment_is_added_with_an_entry(self, admin: Client, tenant: Tenant) -> None:
        shard, _ = make_shard("one")
        row = {"assignments-TOTAL_FORMS": "1", "assignments-0-tenant": tenant.pk, "assignments-0-priority": "7",
               "assignments-0-shard": shard.pk}  # fmt: skip
        admin.post(page(shard), {**FORM, "provider": "", "max_concurrent_jobs": "2", **row})
        assert Assignment.objects.get().priority == 7
        assert AuditEntry.objects.get(action="shard.assignment_added").actor == "anna"


class TestRemoving:
    def test_a_shard_with_a_container_stays_and_the_reason_is_shown(self, admin: Client) -> None:
        shard = contained()
        for answer in (
            admin.get(page(shard, "delete/"), follow=True),
            admin.post(page(shard, "delete/"), {"post": "yes"}, follow=True),
        ):
            assert "destroy it first" in words(answer)
        assert Shard.objects.exists()

    def test_a_shard_without_a_container_is_removed(self, admin: Client) -> None:
        shard, _ = make_shard("one", state=ShardState.GONE)
        transition(shard, ShardState.REQUESTED)
        admin.post(page(shard, "delete/"), {"post": "yes"})
        assert not Shard.objects.exists()
        assert AuditEntry.objects.get().action == "shard.removed"

    def test_there_is_no_way_to_remove_many_at_once(self, admin: Client) -> None:
        shard, _ = make_shard("one", state=ShardState.GONE)
        admin.post(LIST, {"action": "delete_selected", "_selected_action": [shard.pk], "post": "yes"})
        assert Shard.objects.exists()


class TestDoing:
    def test_a_drain_asks_for_its_reason(self, admin: Client) -> None:
        shard, _ = make_shard("one")
        assert "This field is required" in words(admin.post(page(shard, "do/drain/"), {"reason": " "}))
        assert "is drained" in words(admin.post(page(shard, "do/drain/"), {"reason": "kernel"}, follow=True))
        assert Suspension.objects.get().reason == "kernel"
        entry = AuditEntry.objects.get()
        assert (entry.actor, entry.action, entry.details) == ("anna", "shard.drained", {"reason": "kernel"})
        assert "takes jobs again" in words(admin.post(page(shard, "do/resume/"), follow=True))

    def test_opening_an_action_changes_nothing(self, admin: Client) -> None:
        shard = contained()
        for name in ("drain", "restart", "destroy", "snapshot", "token"):
            assert admin.get(page(shard, f"do/{name}/")).status_code == 200
        assert not Operation.objects.exists()
        assert not AuditEntry.objects.exists()

    def test_destroying_a_shard_requires_its_name(self, admin: Client) -> None:
        shard = contained()
        assert "That is not the shard&#x27;s name" in words(admin.post(page(shard, "do/destroy/"), {"name": "tow"}))
        assert not Operation.objects.exists()
        assert "Requested: destroy of shard one" in words(
            admin.post(page(shard, "do/destroy/"), {"name": "one"}, follow=True)
        )
        assert Operation.objects.get().requested_by == "anna"

    def test_running_jobs_end_only_if_allowed(self, admin: Client) -> None:
        shard = contained()
        job = make_job(make_tenant())
        Attempt.objects.create(job=job, number=1, queue="shard.one", state="running", shard=shard)
        assert "it runs a job; drain it and wait" in words(admin.post(page(shard, "do/restart/")))
        assert not Operation.objects.exists()
        admin.post(page(shard, "do/restart/"), {"force": "on"})
        assert Operation.objects.get().kind == "restart"

    def test_a_snapshot_is_named_and_can_be_gone_back_to(self, admin: Client) -> None:
        shard = contained()
        assert "lower-case slug" in words(admin.post(page(shard, "do/snapshot/"), {"label": "Not A Slug"}))
        admin.post(page(shard, "do/snapshot/"), {"label": "before"})
        Operation.objects.update(state=OperationState.DONE)
        text = admin.get(page(shard, "do/restore/")).content.decode()
        assert re.findall(r'<option value="([a-z]+)"', text) == ["before", "clean"]
        assert "Select a valid choice" in words(admin.post(page(shard, "do/restore/"), {"label": "other"}))

    def test_an_unsupported_action_is_refused_with_a_reason(self, admin: Client) -> None:
        shard = contained(provider="process")
        assert "the provider process does not support snapshots" in words(admin.get(page(shard, "do/snapshot/")))
        assert "does not support snapshots" in words(admin.post(page(shard, "do/snapshot/"), {"label": "x"}))
        assert not Operation.objects.exists()

    def test_no_action_starts_during_an_operation(self, admin: Client) -> None:
        shard = contained()
        Operation.objects.create(shard=shard, kind="restart", requested_by="bob")
        assert "An operation is in progress: restart, requested by bob." in words(admin.get(page(shard, "do/stop/")))

    def test_a_token_for_a_machine_is_shown_once(self, admin: Client) -> None:
        shard, _ = make_shard("one", state=ShardState.REQUESTED)
        text = words(admin.post(page(shard, "do/token/"), follow=True))
        assert re.search(r"mcte_[\w-]{40,}", text)
        assert "mcte_" not in words(admin.get(page(shard)))

    def test_a_spare_is_activated(self, admin: Client) -> None:
        shard = contained(is_spare=True)
        assert "Spare one is activated: it takes jobs." in words(admin.post(page(shard, "do/activate/"), follow=True))
        shard.refresh_from_db()
        assert not shard.is_spare

    def test_an_unknown_action_is_not_found(self, admin: Client) -> None:
        shard, _ = make_shard("one")
        assert admin.get(page(shard, "do/explode/")).status_code == 404
        assert admin.get(f"{LIST}999999/do/drain/").status_code == 404

    def test_a_bulk_action_reports_each_shard(self, admin: Client) -> None:
        one, two = contained(), make_shard("two")[0]
        data = {"action": "restart", "_selected_action": [one.pk, two.pk], "reason": ""}
        text = words(admin.post(LIST, data, follow=True))
        assert "Shard one will be restarted." in text
        assert "Shard two: restart is not possible, because it has no provider" in text


class TestLooking:
    def test_its_page_has_what_happened(self, admin: Client) -> None:
        shard = contained()
        steps = [{"at": "2030-01-01T00:00:00.000+00:00", "text": "clone the <template>"}]
        Operation.objects.create(
            shard=shard, kind="restart", state="failed", error="no room", steps=steps, requested_by="bob"
        )
        transition(shard, ShardState.SUSPECT, reason="silent", by="")
        text = words(admin.get(page(shard)))
        for fact in ("clone the &lt;template&gt;", "no room", "bob", "silent", "ref-1"):
            assert fact in text

    def test_charts_are_drawn_of_its_samples(self, admin: Client) -> None:
        shard, _ = make_shard("one")
        for minutes in (4, 3, 2):
            ShardSample.objects.create(
                shard=shard, at=Now() - timedelta(minutes=minutes), state="ready", cpu_percent=10 * minutes,
                memory_mb=1024, memory_total_mb=4096, disk_free_mb=5000, running=1, slots=2,
            )  # fmt: skip
        content = admin.get(page(shard)).content.decode()
        assert content.count("<polyline") == 4
        assert "CPU: 20 % now, between 20 % and 40 %" in content
        assert admin.get(page(shard, "change/?span=7d")).status_code == 200
        assert admin.get(page(shard, "change/?span=nonsense")).status_code == 200

    def test_the_live_part_is_refreshed_only_during_an_operation(self, admin: Client) -> None:
        shard = contained()
        operation = Operation.objects.create(shard=shard, kind="restart", requested_by="bob")
        running = admin.get(page(shard, "live/"))
        assert b"every 1s" in running.content
        operation.state = OperationState.DONE
        operation.save()
        ended = admin.get(page(shard, "live/"))
        assert b"every 1s" not in ended.content
        assert ended.headers["HX-Trigger"] == "shard-settled"

    def test_a_hostile_report_is_text(self, admin: Client) -> None:
        shard, _ = make_shard("one")
        evil = "<script>alert(1)</script>"
        Shard.objects.filter(pk=shard.pk).update(report={"version": evil, "running": [evil], "versions": {evil: evil}})
        for path in (LIST, page(shard), page(shard, "live/")):
            assert evil not in admin.get(path).content.decode()

    def test_the_log_of_a_silent_shard_shows_its_last_heartbeat(self, admin: Client) -> None:
        shard, _ = make_shard("one")
        answer = admin.get(page(shard, "log/"))
        assert "Shard one did not answer within 3 s. Last heartbeat: " in words(answer)
        # It may have become ready a moment ago.
        assert "This page asks again every 5 s." in words(answer)
        assert f'hx-get="{page(shard, "log/")}?lines=100" hx-trigger="load delay:5s"' in answer.content.decode()


class TestWho:
    @pytest.fixture
    def viewer(self, db: None) -> Client:
        user = User.objects.create_user("vera", is_staff=True)
        user.user_permissions.add(Permission.objects.get(codename="view_shard"))
        client = Client()
        client.force_login(user)
        return client

    @pytest.mark.parametrize("name", ["drain", "destroy", "token", "activate", "provision"])
    def test_a_viewer_cannot_act(self, viewer: Client, name: str) -> None:
        shard = contained()
        data = {"reason": "x", "name": "one"}
        assert viewer.post(page(shard, f"do/{name}/"), data).status_code == 403
        assert (Operation.objects.count(), Suspension.objects.count(), AuditEntry.objects.count()) == (0, 0, 0)

    def test_a_viewer_sees_no_buttons(self, viewer: Client) -> None:
        text = words(viewer.get(page(contained())))
        assert "ref-1" in text
        assert "Destroy" not in text

    def test_staff_without_the_right_see_nothing(self, db: None) -> None:
        client = Client()
        client.force_login(User.objects.create_user("norma", is_staff=True))
        shard = contained()
        for end in ("change/", "test/", "live/", "past/", "log/"):
            assert client.get(page(shard, end)).status_code == 403
        assert client.get("/admin/preview/").status_code == 403

    @pytest.mark.parametrize(
        "path", ["shards/operation", "shards/scalingdecision", "shards/suspension", "tenants/auditentry"]
    )
    def test_history_cannot_be_changed(self, admin: Client, path: str) -> None:
        AuditEntry.objects.create(actor="a", action="b.c", subject="d/e")
        entry = AuditEntry.objects.get()
        assert admin.get(f"/admin/{path}/").status_code == 200
        assert admin.get(f"/admin/{path}/add/").status_code == 403
        if path == "tenants/auditentry":
            assert admin.get(f"/admin/{path}/{entry.pk}/change/").status_code == 200
            assert admin.post(f"/admin/{path}/{entry.pk}/change/", {"actor": "x"}).status_code == 403
            assert admin.post(f"/admin/{path}/{entry.pk}/delete/", {"post": "yes"}).status_code == 403
            data = {"action": "delete_selected", "_selected_action": [entry.pk], "post": "yes"}
            admin.post(f"/admin/{path}/", data)
            assert AuditEntry.objects.get().actor == "a"


class TestPools:
    FORM: dict[str, Any] = {
        "name": "premium",
        "mode": "persistent",
        "assignments-TOTAL_FORMS": "0",
        "assignments-INITIAL_FORMS": "0",
    }

    def test_a_mistake_in_the_rules_is_shown_at_their_field(self, admin: Client) -> None:
        data = {**self.FORM, "provider": "memory", "scaling_rules": RULES % "avg_queue_weight > 30s"}
        text = words(admin.post("/admin/shards/pool/add/", data))
        assert "scale_up.condition:" in text
        assert "avg_queue_weight" in text
        assert not Pool.objects.exists()

    def test_rules_need_something_to_build(self, admin: Client) -> None:
        data = {**self.FORM, "scaling_rules": RULES % "avg_queue_wait > 30s"}
        assert words(admin.post("/admin/shards/pool/add/", data)).count("Required for autoscaling") == 2

    def test_a_pool_without_rules_is_not_scaled(self, admin: Client) -> None:
        admin.post("/admin/shards/pool/add/", {**self.FORM, "scaling_rules": ""})
        assert Pool.objects.get().scaling_rules is None
        assert AuditEntry.objects.get().action == "pool.created"


class TestPreview:
    def test_it_asks_the_router(self, admin: Client, tenant: Tenant) -> None:
        make_shard("one")
        make_shard("two", "browser")
        text = words(admin.get(f"/admin/preview/?tenant={tenant.slug}&capabilities=git"))
        assert "The job goes to the queue cap.filesystem+git at once." in text
        assert "over-qualified by 1: filesystem" in text
        assert "lacks git" in text

    def test_an_unknown_tenant_is_reported(self, admin: Client) -> None:
        assert "There is no tenant “green”." in words(admin.get("/admin/preview/?tenant=green&capabilities=git"))
