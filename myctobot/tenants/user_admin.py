"""Admin pages of users and groups: Django's own, in the panel's theme and with audit entries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from myctobot.tenants.audited_admin import AuditedModelAdmin

if TYPE_CHECKING:
    from django.contrib.auth.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
else:
    from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class UserAdmin(DjangoUserAdmin[User], AuditedModelAdmin[User]):
    form = UserChangeForm  # type: ignore[assignment]  # the stubs leave its user open
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    redacted_fields = ("password",)

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        answer: HttpResponse = super().user_change_password(request, id, form_url)
        user = self.get_object(request, unquote(id))
        # Django redirects after a valid form, and shows an invalid form again.
        if user is not None and isinstance(answer, HttpResponseRedirect):
            self.record_change(request, user, "password_changed")
        return answer


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, AuditedModelAdmin[Group]):
    pass
