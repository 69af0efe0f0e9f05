"""Admin pages of shards: the list and the page of one shard."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import admin, messages
from django.db.models import DurationField, ExpressionWrapper, F, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from myctobot.admin_site.widgets import ago, label, said
from myctobot.errors import MyctobotError
from myctobot.tenants.audited_admin import AuditedModelAdmin
from shards.admin import shard_summary, shard_views
from shards.admin.bulk_actions import BULK, BulkReasonForm
from shards.admin.pools import ShardAssignmentInline
from shards.admin.shard_forms import ShardForm
from shards.inventory import service
from shards.models import Shard, ShardTemplate
from shards.models.timeouts import SILENT_AFTER
from shards.operations.models import OperationKind
from shards.operations.requests import request as request_operation

_BAR: Final = '<div class="mc-bar"><span>{}</span><i><b class="{}" style="width: {}%"></b></i></div>'


@admin.register(Shard)
class ShardAdmin(AuditedModelAdmin[Shard]):
    """List and pages of shards; ``shard_views`` has the actions on one shard."""

    form = ShardForm
    list_display = ["name", "state_text", "load", "cpu", "memory", "heartbeat", "version", "pool", "provider_text"]
    list_filter = ["state", "pool", "provider", "template", "shard_type", "is_active", "is_spare"]
    search_fields = ["name", "description", "shard_class", "provider_ref"]
    list_select_related = ["pool"]
    list_per_page = 50
    list_fullwidth = True
    ordering = ["name"]
    inlines = [ShardAssignmentInline]
    actions = BULK
    action_form = BulkReasonForm
    change_form_outer_before_template = "shards/panel/shard_before.html"
    change_form_outer_after_template = "shards/panel/shard_after.html"
    fieldsets = [
        ("Configuration", {"fields": ["name", "description", "template", "shard_type", "pool", "provider"]}),
        ("Work", {"fields": ["capabilities", "max_concurrent_jobs", "is_active"]}),
        (
            "Changes to the template",
            {
                "fields": ["mcp_servers", "resource_spec"],
                "description": "Merged with the template's values. Agents can read these, so enter no secrets.",
            },
        ),
    ]

    # --- The list -------------------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[Shard]:
        # Use the database's clock, which heartbeats use too.
        silent = ExpressionWrapper(Now() - F("last_heartbeat_at"), DurationField())
        return super().get_queryset(request).annotate(silent=silent)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        # Shards are removed one by one, because each must have no container.
        return {name: found for name, found in super().get_actions(request).items() if name != "delete_selected"}

    @admin.display(description="state", ordering="state")
    def state_text(self, shard: Shard) -> SafeString:
        return label("switched off") if not shard.is_active else shard_summary.state_label(shard)

    @admin.display(description="jobs")
    def load(self, shard: Shard) -> SafeString:
        running, slots = len(shard.report.get("running", [])), shard.usable_slots
        return _bar(f"{running} of {slots}", 100 * running / max(1, slots))

    @admin.display(description="CPU", empty_value="")
    def cpu(self, shard: Shard) -> SafeString | None:
        percent = shard.report.get("cpu_percent")
        return None if percent is None else _bar(f"{percent:.0f} %", percent)

    @admin.display(description="memory", empty_value="")
    def memory(self, shard: Shard) -> SafeString | None:
        used, total = shard.report.get("memory_mb"), shard.report.get("memory_total_mb")
        return _bar(f"{used / 1024:.1f} of {total / 1024:.1f} GB", 100 * used / total) if total else None

    @admin.display(description="last heartbeat", ordering="-last_heartbeat_at")
    def heartbeat(self, shard: Any) -> SafeString | str:
        text = ago(shard.silent)
        return label(text, "warning") if shard.silent is not None and shard.silent > SILENT_AFTER else text

    @admin.display(description="version", empty_value="")
    def version(self, shard: Shard) -> str | None:
        version = shard.report.get("version")
        return str(version) if version else None

    @admin.display(description="provider", ordering="provider")
    def provider_text(self, shard: Shard) -> str:
        return shard.provider or "none"

    # --- Adding and changing --------------------------------------------------------------------------

    def get_readonly_fields(self, request: HttpRequest, obj: Shard | None = None) -> list[str]:
        return ["name", *(["provider"] if obj.provider_ref else [])] if obj else []

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        facts: dict[str, Any] = dict(super().get_changeform_initial_data(request))
        template = ShardTemplate.objects.filter(name=request.GET.get("template", "").replace("\x00", "")).first()
        if template is not None:
            facts.update(service.facts_of_template(template), template=template.pk, description=template.description)
        return facts

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        more = {"templates": ShardTemplate.objects.order_by("pk")[:20], "chosen": request.GET.get("template", "")}
        return super().add_view(request, form_url, {**(extra_context or {}), **more})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        shard = self.get_object(request, object_id)
        context: dict[str, Any] = {}
        if shard is not None and request.method == "GET":
            span = request.GET.get("span", "1h")
            context = {
                **shard_summary.live(shard),
                **shard_summary.past(shard),
                "charts": shard_summary.charts(shard, span),
                "spans": list(shard_summary.SPANS),
                "span": span,
                "may_change": self.has_change_permission(request, shard),
            }
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **context})

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except MyctobotError as error:
            # For example, the broker is down. Nothing was saved.
            messages.error(request, said(error))
            return HttpResponseRedirect(request.get_full_path())

    def save_model(self, request: HttpRequest, obj: Shard, form: Any, change: bool) -> None:
        by = request.user.get_username()
        if not change:
            service.add(obj, by=by)
            return
        for sentence in service.change(obj, by=by):
            messages.info(request, sentence)

    def response_add(self, request: HttpRequest, obj: Shard, post_url_continue: str | None = None) -> HttpResponse:
        page = reverse("admin:shards_shard_change", args=[obj.pk])
        if "_provision" not in request.POST:
            return super().response_add(request, obj, page if "_continue" in request.POST else post_url_continue)
        try:
            request_operation(obj, OperationKind.PROVISION, by=request.user.get_username())
        except MyctobotError as error:
            messages.error(request, f"Shard {obj} is added, but not provisioned: {said(error)}")
        else:
            messages.success(request, f"Shard {obj} is added and will be provisioned.")
        return HttpResponseRedirect(page)

    # --- Removing -------------------------------------------------------------------------------------

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        shard = self.get_object(request, object_id)
        # Without the permission Django refuses the page, and the reason would describe the shard.
        may_delete = self.has_delete_permission(request, shard)
        if may_delete and shard is not None and (reason := service.removal_blocked_reason(shard)):
            messages.error(request, reason)
            return HttpResponseRedirect(reverse("admin:shards_shard_change", args=[shard.pk]))
        return super().delete_view(request, object_id, extra_context)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[list[Any], dict[str, int], set[str], Any]:
        # Deleting a shard deletes its history too, without a separate permission for each model.
        found, counts, _, protected = super().get_deleted_objects(objs, request)
        return found, counts, set(), protected

    def delete_model(self, request: HttpRequest, obj: Shard) -> None:
        service.remove(obj, by=request.user.get_username())

    # --- Views of one shard ---------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        views = {
            "do/<slug:name>": shard_views.do,
            "test": shard_views.test,
            "live": shard_views.live,
            "past": shard_views.past,
            "log": shard_views.log,
        }
        own = [
            path(f"<int:pk>/{end}/", self.admin_site.admin_view(self._view(view)), name=f"shards_shard_{view.__name__}")
            for end, view in views.items()
        ]
        return [*own, *super().get_urls()]

    def _view(self, view: Any) -> Any:
        def bound(request: HttpRequest, pk: int, **kwargs: Any) -> HttpResponse:
            response: HttpResponse = view(self, request, pk, **kwargs)
            return response

        return bound


def _bar(text: str, percent: float) -> SafeString:
    return format_html(_BAR, text, "mc-full" if percent >= 90 else "", round(min(100, max(0, percent))))
