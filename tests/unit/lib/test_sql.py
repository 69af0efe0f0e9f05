from __future__ import annotations

import pytest

from myctobot.lib.sql import ColumnSet
from myctobot.tenants.models import Tenant


def test_columns_come_in_the_order_of_the_model() -> None:
    columns = ColumnSet(Tenant, "weight", "id", "slug")
    assert columns.of("t") == "t.id, t.slug, t.weight"
    tenant = columns.instance([7, "acme", 300])
    assert (tenant.pk, tenant.slug, tenant.weight) == (7, "acme", 300)
    assert len(columns) == 3


def test_what_is_not_among_them_is_deferred() -> None:
    tenant = ColumnSet(Tenant, "id").instance([7])
    assert tenant.get_deferred_fields() == {
        "slug", "name", "is_active", "weight", "max_running_jobs", "max_waiting_jobs", "created_at",
    }  # fmt: skip


def test_a_column_that_the_model_has_not() -> None:
    with pytest.raises(ValueError, match="Tenant has not all of the columns"):
        ColumnSet(Tenant, "id", "colour")
