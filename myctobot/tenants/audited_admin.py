"""Admin pages that record every change in the audit log, in the same transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

from django.db.models import NOT_PROVIDED, Model, QuerySet
from django.forms import BaseModelFormSet
from django.http import HttpRequest

from myctobot.admin_site.widgets import Page
from myctobot.lib.postgres.limits import long_statements
from myctobot.tenants.audit import record

M = TypeVar("M", bound=Model)

_REDACTED: Final = "(set)"


class AuditedModelAdmin(Page[M]):
    """Admin page that records who added, changed or removed a row, with the old and new values."""

    # Fields whose values the log omits, in addition to those that ``audit`` masks by their names.
    redacted_fields: tuple[str, ...] = ()

    def get_readonly_fields(self, request: HttpRequest, obj: M | None = None) -> list[str]:
        """Omit the values that the database sets from the page of a row that does not exist yet."""
        names = [str(name) for name in super().get_readonly_fields(request, obj)]
        return names if obj else [name for name in names if not self._is_set_by_database(name)]

    def _is_set_by_database(self, name: str) -> bool:
        fields = {field.name: field for field in self.model._meta.concrete_fields}
        return name in fields and fields[name].db_default is not NOT_PROVIDED

    def save_model(self, request: HttpRequest, obj: M, form: Any, change: bool) -> None:
        before = type(obj)._default_manager.filter(pk=obj.pk).first() if change else None
        super().save_model(request, obj, form, change)
        changed = {name: self._audited_value(name, before, obj) for name in form.changed_data}
        if changed or not change:
            self.record_change(request, obj, "changed" if change else "created", changed)

    def delete_model(self, request: HttpRequest, obj: M) -> None:
        # Record first, because the name of the row may need its key.
        self.record_change(request, obj, "removed")
        # A tenant may have millions of rows.
        with long_statements():
            super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[M]) -> None:
        for obj in queryset:
            self.record_change(request, obj, "removed")
        with long_statements():
            super().delete_queryset(request, queryset)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        super().save_formset(request, form, formset, change)
        for done, rows in _of_formset(formset):
            for row in rows:
                self.record_change(request, form.instance, f"{_noun(row)}_{done}", {_noun(row): str(row)})

    def record_change(self, request: HttpRequest, obj: Model, done: str, details: dict[str, Any] | None = None) -> None:
        """Record what the request's user did to a row."""
        record(request.user.get_username(), f"{_noun(obj)}.{done}", f"{_noun(obj)}/{obj}", details)

    def _audited_value(self, name: str, before: M | None, after: M) -> Any:
        # A sealed value is a form field without a model field, and its value stays out of the log.
        if name in self.redacted_fields or not any(field.name == name for field in after._meta.concrete_fields):
            return _REDACTED
        value = _plain(getattr(after, name))
        return {"was": _plain(getattr(before, name)), "is": value} if before is not None else value


def _of_formset(formset: BaseModelFormSet[Any, Any]) -> Iterable[tuple[str, list[Model]]]:
    yield "added", list(formset.new_objects)
    yield "changed", [row for row, _ in formset.changed_objects]
    yield "removed", list(formset.deleted_objects)


def _noun(row: Model) -> str:
    return str(row._meta.verbose_name).replace(" ", "-")


def _plain(value: Any) -> Any:
    """Return a value that JSON can represent."""
    return value if value is None or isinstance(value, str | int | float | bool | list | dict) else str(value)


def in_words(details: Mapping[str, Any]) -> str:
    """Return the details of an audit entry as one text, without empty values."""
    return "; ".join(f"{name}: {text}" for name, value in details.items() if (text := _text_of(value)))


def _text_of(value: Any) -> str:
    if isinstance(value, Mapping) and set(value) == {"was", "is"}:
        return f"{_text_of(value['was']) or 'none'} → {_text_of(value['is']) or 'none'}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text_of(inner)}".strip() for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(_text_of(inner) for inner in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)
