"""Pages on which a tenant's admins store, bind and remove secrets."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from myctobot.dashboards.pages import admins_only, error_text, member_page
from myctobot.dashboards.secret_forms import BindingForm, NewStoredSecretForm
from myctobot.errors import MyctobotError
from myctobot.tenants.authentication import Caller, caller_name
from myctobot.tenants.models import Secret
from myctobot.tenants.secrets import SecretMissing, add_secret, change_secret, find_secret, remove_secret


@require_http_methods(["GET", "POST"])
@member_page
@admins_only
def secret_list(request: HttpRequest, caller: Caller) -> HttpResponse:
    """List the tenant's secrets with their bindings, and store a new one."""
    form = NewStoredSecretForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        data = form.cleaned_data
        try:
            add_secret(caller.tenant, data["name"], data["value"], form.binding, by=caller_name(caller))
            return redirect("console-secrets")
        except MyctobotError as error:
            form.add_error("name", error_text(error))
    context = {"stored": Secret.objects.filter(tenant=caller.tenant).order_by("name"), "form": form}
    return render(request, "dashboards/secrets.html", context, status=400 if form.is_bound else 200)


@require_http_methods(["GET", "POST"])
@member_page
@admins_only
def secret_detail(request: HttpRequest, caller: Caller, name: str) -> HttpResponse:
    """Show the form that changes the value and the binding of a secret, and change them."""
    try:
        secret = find_secret(caller.tenant, name)
        form = BindingForm(request.POST if request.method == "POST" else None, initial=BindingForm.initial_of(secret))
        if form.is_valid():
            value = form.cleaned_data["value"] or None
            change_secret(caller.tenant, name, by=caller_name(caller), value=value, binding=form.binding)
            return redirect("console-secrets")
    except SecretMissing:
        return _not_found(request)
    status = 400 if form.is_bound else 200
    return render(request, "dashboards/secret.html", {"secret": secret, "form": form}, status=status)


@require_POST
@member_page
@admins_only
def secret_remove(request: HttpRequest, caller: Caller, name: str) -> HttpResponse:
    """Remove a secret."""
    try:
        remove_secret(caller.tenant, name, by=caller_name(caller))
    except SecretMissing:
        return _not_found(request)
    return redirect("console-secrets")


def _not_found(request: HttpRequest) -> HttpResponse:
    return render(request, "dashboards/not_found.html", status=404)
