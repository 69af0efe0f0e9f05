"""Statements of ``myctobot.lib.sql`` on the real database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, connection, transaction

from myctobot.lib.sql import SqlFragment, fetch_one, insert, run_pipeline
from myctobot.tenants.models import Tenant

pytestmark = pytest.mark.django_db(transaction=True)
RENAME = "UPDATE tenants_tenant SET name = %s WHERE slug = %s RETURNING name"
NAME = "SELECT name FROM tenants_tenant WHERE slug = %s"


def make(slug: str) -> Tenant:
    return Tenant.objects.create(slug=slug, name="Old")


class TestAtOnce:
    def test_each_has_its_row_and_the_next_sees_what_was_written(self) -> None:
        make("a")
        rows = run_pipeline(
            (RENAME, ["New", "a"]), (NAME, ["a"]), (NAME, ["nobody"]), ("DELETE FROM tenants_tenant", [])
        )
        assert rows == [("New",), ("New",), None, None]
        assert not Tenant.objects.exists()

    def test_what_fails_leaves_nothing_of_those_before_it(self) -> None:
        make("a")
        make("b")
        with pytest.raises(IntegrityError):
            run_pipeline((RENAME, ["New", "a"]), ("UPDATE tenants_tenant SET slug = %s WHERE slug = %s", ["a", "b"]))
        assert fetch_one(NAME, ["a"]) == ("Old",)

    def test_within_a_transaction_it_is_a_part_of_that(self) -> None:
        make("a")
        with transaction.atomic():
            run_pipeline((RENAME, ["New", "a"]), (RENAME, ["Newer", "a"]))
            transaction.set_rollback(True)
        assert fetch_one(NAME, ["a"]) == ("Old",)

    def test_each_is_prepared_once(self) -> None:
        make("a")
        for _ in range(3):
            run_pipeline((RENAME, ["New", "a"]), (NAME, ["a"]))
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE %s",
                ["UPDATE tenants_tenant SET name%"],
            )
            assert cursor.fetchone() == (1,)


class TestInsert:
    def tenant(self, slug: str) -> Tenant:
        return Tenant(slug=slug, name="New", created_at=datetime(2026, 1, 1, tzinfo=UTC))

    def test_a_term_is_computed_by_the_database_and_read_back(self) -> None:
        tenant = self.tenant("a")
        later = SqlFragment(
            "created + make_interval(secs => %s)".replace("created", "'2026-01-01Z'::timestamptz"), [60]
        )
        assert insert(tenant, {"created_at": later, "name": SqlFragment("upper(%s)", ["terms"])})
        stored = Tenant.objects.get()
        assert (stored.pk, stored.name, stored.created_at) == (tenant.pk, "TERMS", tenant.created_at)
        assert tenant.created_at == datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=1)
        tenant.name = "Saved"
        tenant.save()
        assert Tenant.objects.get().name == "Saved"

    def test_a_condition_that_does_not_hold_stores_nothing(self) -> None:
        no_other = SqlFragment("NOT EXISTS (SELECT FROM tenants_tenant WHERE slug <> %s)", ["b"])
        assert insert(self.tenant("b"), only_if=no_other)
        make("a")
        refused = self.tenant("b2")
        assert not insert(refused, only_if=no_other)
        assert refused._state.adding
        assert Tenant.objects.count() == 2
