"""Operators add, change, watch and remove shards over REST."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from myctobot.tenants.models import AuditEntry, Tenant
from shards.models import Assignment, Pool, Shard, ShardState
from shards.monitoring.models import ShardSample
from shards.operations.models import Operation
from tests.factories.control_plane import Api, error_of, make_operator, make_shard, make_tenant

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator(db: None) -> Api:
    return Api.session(make_operator())


def last_entry(subject: str) -> AuditEntry:
    return AuditEntry.objects.filter(subject=subject).latest("pk")


class TestAdding:
    def test_a_template_fills_in_what_is_left_out(self, operator: Api) -> None:
        answer = operator.post("/shards", {"name": "pw-1", "template": "playwright", "provider": "memory"})
        assert answer.status_code == 201
        shard = answer.json()["shard"]
        assert shard["capabilities"] == ["browser", "filesystem", "git", "playwright"]
        assert (shard["shard_type"], shard["state"], shard["provider"]) == ("playwright", "requested", "memory")
        assert shard["queues"] == ["cap.browser+filesystem+git+playwright", "shard.pw-1"]
        assert answer.json()["operation"] is None

    def test_it_is_in_the_audit_log_with_who_and_what(self, operator: Api) -> None:
        operator.post("/shards", {"name": "one", "capabilities": ["git"]})
        entry = last_entry("shard/one")
        assert (entry.actor, entry.action, entry.details["capabilities"]) == ("olga", "shard.created", ["git"])

    def test_its_container_can_be_asked_for_at_once(self, operator: Api) -> None:
        body = {"name": "one", "template": "general", "provider": "memory", "provision": True}
        operation = operator.post("/shards", body).json()["operation"]
        assert (operation["kind"], operation["state"], operation["requested_by"]) == ("provision", "queued", "olga")

    def test_one_that_cannot_be_provisioned_is_not_added(self, operator: Api) -> None:
        answer = operator.post("/shards", {"name": "one", "template": "general", "provision": True})
        assert (answer.status_code, error_of(answer)["code"]) == (409, "wrong_state")
        assert "it has no provider" in error_of(answer)["message"]
        assert not Shard.objects.exists()
        assert not AuditEntry.objects.exists()

    @pytest.mark.parametrize(
        ("change", "field", "said"),
        [
            ({"name": "Not A Slug"}, "name", "lower-case slug"),
            ({"name": "preview"}, "name", "choose another name"),
            ({"name": 5}, "name", "Must be text"),
            ({"capabilities": None}, "capabilities", "null"),
            ({"capabilities": ["A B"]}, "capabilities", "not a capability"),
            ({"template": "nothing"}, "template", "database, full, general, playwright"),
            ({"pool": "nothing"}, "pool", "there are: none"),
            ({"provider": "nothing"}, "provider", "lxc, memory, process, proxmox"),
            ({"max_concurrent_jobs": 65}, "max_concurrent_jobs", "64"),
            ({"max_concurrent_jobs": True}, "max_concurrent_jobs", "whole number"),
            ({"is_active": "yes"}, "is_active", "true or false"),
            ({"provision": 1}, "provision", "true or false"),
            ({"mcp_servers": []}, "mcp_servers", "object"),
            ({"mcp_servers": {"git": {}}}, "mcp_servers", "the program to start"),
            ({"resource_spec": {"cpus": -1}}, "resource_spec", "cpus"),
            ({"state": "ready"}, "state", "Unknown field"),
            ({"key_hash": "0" * 64}, "key_hash", "Unknown field"),
        ],
    )
    def test_a_mistake_names_its_field(self, operator: Api, change: dict[str, Any], field: str, said: str) -> None:
        make_shard("taken")
        answer = operator.post("/shards", {"name": "one", "capabilities": ["git"], **change})
        assert answer.status_code == 400
        assert said in " ".join(error_of(answer)["fields"][field])
        assert Shard.objects.count() == 1

    def test_a_name_is_given_once(self, operator: Api) -> None:
        make_shard("taken")
        answer = operator.post("/shards", {"name": "taken", "capabilities": ["git"]})
        assert (answer.status_code, error_of(answer)["code"]) == (409, "shard_exists")

    @pytest.mark.parametrize("text", ["a\u0000b", "\ud800"])
    def test_a_text_that_postgresql_cannot_store_is_refused(self, operator: Api, text: str) -> None:
        for server in ({"command": text}, {"command": "x", "args": [text]}, {"command": "x", "env": {"A": text}}):
            body = {"name": "one", "capabilities": ["git"], "mcp_servers": {"git": server}}
            answer = operator.post("/shards", body)
            assert (answer.status_code, list(error_of(answer)["fields"])) == (400, ["mcp_servers"])

    def test_thousands_of_unknown_resources_are_counted(self, operator: Api) -> None:
        spec = {f"{number:05}{'x' * 100}": 1 for number in range(5000)}
        answer = operator.post("/shards", {"name": "one", "capabilities": ["git"], "resource_spec": spec})
        problems = error_of(answer)["fields"]["resource_spec"]
        assert (len(problems), problems[-1]) == (21, "Has 4980 more unknown keys.")
        assert max(map(len, problems)) < 200

    def test_without_capabilities_there_is_no_class(self, operator: Api) -> None:
        answer = operator.post("/shards", {"name": "one"})
        assert "capabilities" in error_of(answer)["fields"]


class TestLooking:
    def test_the_list_is_paged_and_narrowed(self, operator: Api) -> None:
        for name in ("one", "two", "three"):
            make_shard(name, pool="premium" if name == "two" else None)
        first = operator.get("/shards?limit=2").json()
        assert [shard["name"] for shard in first["results"]] == ["three", "two"]
        rest = operator.http.get(first["next"]).json()
        assert [shard["name"] for shard in rest["results"]] == ["one"]
        assert [shard["name"] for shard in operator.get("/shards?pool=premium").json()["results"]] == ["two"]
        assert operator.get("/shards?class=filesystem%2Bgit&state=ready").json()["results"][0]["name"] == "three"
        assert operator.get("/shards?provider=lxc").json()["results"] == []

    def test_a_state_that_is_none_is_refused(self, operator: Api) -> None:
        assert "ready" in error_of(operator.get("/shards?state=fine"))["fields"]["state"][0]

    def test_a_longer_list_asks_the_database_no_more(self, operator: Api) -> None:
        make_shard("one", pool="a")
        with CaptureQueriesContext(
            connection,
        ) as few:
            operator.get("/shards")
        for at in range(20):
            make_shard(f"more-{at}", pool=f"p-{at}")
        with CaptureQueriesContext(connection) as many:
            assert len(operator.get("/shards").json()["results"]) == 21
        assert len(many) == len(few)

    def test_no_answer_has_a_key(self, operator: Api) -> None:
        shard, key = make_shard("one")
        text = str(operator.get("/shards").json()) + str(operator.get("/shards/one").json())
        assert key not in text
        assert str(shard.key_hash) not in text
        assert "hash" not in text

    def test_one_that_is_not_there_says_which_are(self, operator: Api) -> None:
        make_shard("one")
        answer = operator.get("/shards/two")
        assert (answer.status_code, error_of(answer)["message"]) == (404, "There is no shard 'two'; there are: one.")
        assert operator.get("/shards/%00").status_code == 404

    def test_samples_come_oldest_first(self, operator: Api) -> None:
        shard, _ = make_shard("one")
        ShardSample.objects.create(
            shard=shard, at=Now(), state="ready", cpu_percent=40, memory_mb=100, memory_total_mb=200, disk_free_mb=5,
            running=1, slots=2,
        )  # fmt: skip
        (sample,) = operator.get("/shards/one/samples?minutes=5").json()["samples"]
        assert (sample["cpu_percent"], sample["running"], sample["slots"]) == (40, 1, 2)
        assert operator.get("/shards/one/samples?minutes=x").status_code == 400


class TestChanging:
    def test_what_follows_for_a_shard_that_lives_is_said(self, operator: Api) -> None:
        make_shard("one", slots=2)
        answer = operator.send("patch", "/shards/one", {"capabilities": ["git"], "max_concurrent_jobs": 1}).json()
        assert answer["shard"]["queues"] == ["cap.git", "shard.one"]
        said = " ".join(answer["consequences"])
        for words in ("Its queue is cap.git now", "config.json still has", "until a slot is free"):
            assert words in said
        assert last_entry("shard/one").details == {
            "capabilities": {"was": ["filesystem", "git"], "is": ["git"]}, "max_concurrent_jobs": {"was": 2, "is": 1},
        }  # fmt: skip

    def test_nothing_changed_is_no_entry(self, operator: Api) -> None:
        make_shard("one", slots=2)
        assert operator.send("patch", "/shards/one", {"max_concurrent_jobs": 2}).json()["consequences"] == []
        assert not AuditEntry.objects.exists()

    def test_the_audit_log_has_no_value_of_an_environment(self, operator: Api) -> None:
        make_shard("one")
        servers = {"git": {"command": "x", "env": {"TOKEN": "canary-5d1f"}}}
        assert operator.send("patch", "/shards/one", {"mcp_servers": servers}).status_code == 200
        assert "canary-5d1f" not in str(last_entry("shard/one").details)
        assert "TOKEN" in str(last_entry("shard/one").details)

    def test_a_caller_cannot_set_state_and_name(self, operator: Api) -> None:
        make_shard("one")
        for body in ({"state": "gone"}, {"name": "two"}, {"provider_ref": "x"}):
            assert operator.send("patch", "/shards/one", body).status_code == 400

    def test_a_container_keeps_its_provider(self, operator: Api) -> None:
        shard, _ = make_shard("one")
        Shard.objects.filter(pk=shard.pk).update(provider="memory", provider_ref="ref-1")
        answer = operator.send("patch", "/shards/one", {"provider": "lxc"})
        assert "destroy it first" in error_of(answer)["fields"]["provider"][0]


class TestRemoving:
    def test_one_with_a_container_is_destroyed_first(self, operator: Api) -> None:
        shard, _ = make_shard("one", state=ShardState.STOPPED)
        Shard.objects.filter(pk=shard.pk).update(provider="memory", provider_ref="ref-1")
        answer = operator.send("delete", "/shards/one")
        assert (answer.status_code, error_of(answer)["code"]) == (409, "shard_in_use")
        assert "destroy it first" in error_of(answer)["message"]

    def test_one_that_reports_stays(self, operator: Api) -> None:
        make_shard("one")
        assert "stop its worker" in error_of(operator.send("delete", "/shards/one"))["message"]

    def test_what_is_left_over_goes_and_the_log_stays(self, operator: Api) -> None:
        make_shard("one", state=ShardState.GONE)
        assert operator.send("delete", "/shards/one").status_code == 204
        assert not Shard.objects.exists()
        assert last_entry("shard/one").action == "shard.removed"


class TestOperations:
    def test_one_is_asked_for_and_listed(self, operator: Api) -> None:
        operator.post("/shards", {"name": "one", "template": "general", "provider": "memory"})
        answer = operator.post("/shards/one/operations", {"kind": "provision"})
        assert (answer.status_code, answer.json()["requested_by"]) == (202, "olga")
        (listed,) = operator.get("/shards/one/operations").json()["results"]
        assert (listed["id"], listed["steps"]) == (answer.json()["id"], [])

    def test_a_second_one_waits(self, operator: Api) -> None:
        operator.post("/shards", {"name": "one", "template": "general", "provider": "memory", "provision": True})
        answer = operator.post("/shards/one/operations", {"kind": "provision"})
        assert (answer.status_code, error_of(answer)["code"]) == (409, "operation_under_way")
        assert Operation.objects.count() == 1

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, "kind"),
            ({"kind": "explode"}, "kind"),
            ({"kind": "snapshot"}, "label"),
            ({"kind": "snapshot", "label": "../x"}, "label"),
            ({"kind": "stop", "label": "x"}, "label"),
            ({"kind": "stop", "force": "yes"}, "force"),
        ],
    )
    def test_a_mistake_names_its_field(self, operator: Api, body: dict[str, Any], field: str) -> None:
        make_shard("one")
        assert field in error_of(operator.post("/shards/one/operations", body))["fields"]


class TestAssignments:
    def test_they_are_replaced_as_a_whole(self, operator: Api, tenant: Tenant) -> None:
        shard, _ = make_shard("one")
        Assignment.objects.create(shard=shard, tenant=make_tenant("other"))
        rights = [{"tenant": tenant.slug, "priority": 5, "is_default": True}]
        assert operator.send("put", "/shards/one/assignments", {"assignments": rights}).json() == {
            "assignments": rights
        }
        assert operator.get("/shards/one/assignments").json() == {"assignments": rights}
        was = last_entry("shard/one").details["assignments"]["was"]
        assert [row["tenant"] for row in was] == ["other"]

    def test_a_tenant_has_one_default(self, operator: Api, tenant: Tenant) -> None:
        make_shard("one")
        pool = Pool.objects.create(name="premium")
        Assignment.objects.create(pool=pool, tenant=tenant, is_default=True)
        body = {"assignments": [{"tenant": tenant.slug, "is_default": True}]}
        answer = operator.send("put", "/shards/one/assignments", body)
        assert (answer.status_code, error_of(answer)["code"]) == (409, "default_taken")
        assert "is already premium" in error_of(answer)["message"]
        assert Assignment.objects.count() == 1

    def test_too_many_assignments_are_one_problem(self, operator: Api) -> None:
        make_shard("one")
        body = {"assignments": [{"wrong": 1}] * 50_000}
        fields = error_of(operator.send("put", "/shards/one/assignments", body))["fields"]
        assert fields == {"assignments": ["Must have at most 1000 entries; use a pool for more."]}

    def test_a_tenant_is_listed_once(self, operator: Api, tenant: Tenant) -> None:
        make_shard("one")
        body = {"assignments": [{"tenant": tenant.slug}, {"tenant": tenant.slug}]}
        assert "twice" in error_of(operator.send("put", "/shards/one/assignments", body))["message"]


class TestTheRest:
    def test_a_token_is_shown_once_and_is_in_no_log(self, operator: Api) -> None:
        make_shard("one")
        answer = operator.post("/shards/one/enrolment")
        token = answer.json()["token"]
        assert token.startswith("mcte_")
        assert answer.headers["Cache-Control"] == "no-store"
        assert last_entry("shard/one").action == "shard.enrolment_issued"
        assert token not in str(list(AuditEntry.objects.values()))

    def test_a_spare_is_activated_once(self, operator: Api) -> None:
        shard, _ = make_shard("one")
        Shard.objects.filter(pk=shard.pk).update(is_spare=True)
        assert operator.post("/shards/one/activate").status_code == 204
        assert error_of(operator.post("/shards/one/activate"))["code"] == "wrong_state"

    def test_templates_and_pools_are_listed(self, operator: Api) -> None:
        make_shard("one", pool="premium")
        make_shard("two", pool="premium", state=ShardState.GONE)
        assert len(operator.get("/shard-templates").json()["results"]) == 4
        (pool,) = operator.get("/pools").json()["results"]
        assert (pool["name"], pool["shards"], pool["scaling_rules"]) == ("premium", 1, None)

    def test_the_audit_log_is_narrowed_to_a_subject(self, operator: Api) -> None:
        make_shard("one")
        make_shard("two")
        operator.post("/shards/one/drain", {"reason": "kernel"})
        operator.post("/shards/two/drain", {"reason": "disk"})
        (entry,) = operator.get("/audit?subject=shard/two").json()["results"]
        assert (entry["actor"], entry["action"], entry["details"]) == ("olga", "shard.drained", {"reason": "disk"})

    def test_a_preview_says_the_order_and_why_not(self, operator: Api, tenant: Tenant) -> None:
        make_shard("one")
        make_shard("two", "browser", "git", state=ShardState.DRAINING)
        found = operator.get(f"/shards/preview?tenant={tenant.slug}&capabilities=git").json()
        assert [place["shard"] for place in found["places"]] == ["one"]
        assert [(one["shard"], one["why"]) for one in found["excluded"]] == [("two", "draining")]
        assert found["goes"] is True

    @pytest.mark.parametrize(
        ("query", "field"),
        [("", "tenant"), ("tenant=unknown&capabilities=git", "tenant"), ("tenant=acme", "capabilities"),
         ("tenant=acme&capabilities=A+B", "capabilities"), ("tenant=%00&capabilities=git", "tenant")],
    )  # fmt: skip
    def test_a_preview_names_what_it_needs(self, operator: Api, tenant: Tenant, query: str, field: str) -> None:
        assert field in error_of(operator.get(f"/shards/preview?{query}"))["fields"]
