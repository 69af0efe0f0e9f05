"""Base classes and widgets of the operators' panel: Django's admin classes in unfold's theme.

unfold has no types, and its classes extend Django's, so type checkers see Django's.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from myctobot.errors import InvalidRequest, MyctobotError

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin as Page
    from django.contrib.admin import TabularInline as Inline
    from django.contrib.admin.helpers import ActionForm
    from django.forms import CheckboxInput as Checkbox
    from django.forms import PasswordInput, Select, TextInput
else:
    from unfold.admin import ModelAdmin as Page
    from unfold.admin import TabularInline as Inline
    from unfold.forms import ActionForm
    from unfold.widgets import UnfoldAdminPasswordWidget as PasswordInput
    from unfold.widgets import UnfoldAdminSelectWidget as Select
    from unfold.widgets import UnfoldAdminTextInputWidget as TextInput
    from unfold.widgets import UnfoldBooleanWidget as Checkbox

__all__ = [
    "ActionForm", "Checkbox", "Inline", "Page", "PasswordInput", "ReadOnly", "Select", "TextInput", "ago", "label",
    "said",
]  # fmt: skip


class ReadOnly:
    """Mixin that denies every change, because only the product changes these rows."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def label(text: str, kind: str = "", hint: str = "") -> SafeString:
    """Return a small coloured label.

    Args:
        kind: ``success``, ``info``, ``warning``, ``danger`` or empty, which is grey.
        hint: text of the tooltip.
    """
    return render_to_string("unfold/helpers/label.html", {"text": text, "type": kind, "label_title": hint})


def ago(span: timedelta | None) -> str:
    """Return a time span as text in its largest unit, such as ``5 min ago``."""
    if span is None:
        return "never"
    seconds = max(0, int(span.total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit} ago"
    return f"{seconds} s ago"


def said(error: MyctobotError) -> str:
    """Return an error as one sentence for a person."""
    if isinstance(error, InvalidRequest) and error.fields:
        return " ".join(problem for problems in error.fields.values() for problem in problems)
    return error.message
