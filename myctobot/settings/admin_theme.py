"""How the operators' panel is called, and its menu."""

from __future__ import annotations

from typing import Any

from django.templatetags.static import static
from django.urls import reverse_lazy


def _page(title: str, icon: str, model: str, permission: str = "view") -> dict[str, Any]:
    """An entry of the menu that leads to the list of a model, for those who may see it."""
    app, name = model.split(".")
    return {
        "title": title,
        "icon": icon,
        "link": reverse_lazy(f"admin:{app}_{name}_changelist"),
        "permission": lambda request: request.user.has_perm(f"{app}.{permission}_{name}"),
    }


_PREVIEW = {
    "title": "Where would a job go?",
    "icon": "alt_route",
    "link": reverse_lazy("panel-preview"),
    "permission": lambda request: request.user.has_perm("shards.view_shard"),
}

_DASHBOARD = {
    "title": "Dashboard",
    "icon": "monitoring",
    "link": reverse_lazy("ops"),
    "permission": lambda request: request.user.is_staff,
}

PANEL: dict[str, Any] = {
    "SITE_TITLE": "MyCTOBot",
    "SITE_HEADER": "MyCTOBot",
    "SITE_SUBHEADER": "Operators' panel",
    # Where the site's name and "View site" lead.
    "SITE_URL": "/api/docs/",
    "SITE_SYMBOL": "dns",
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("dashboards/icon.svg")},
    ],
    "STYLES": [lambda request: static("shards/panel.css")],
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "BORDER_RADIUS": "6px",
    "COLORS": {
        # A calm blue; the states of shards are the loud colours of a page.
        "primary": {
            "50": "oklch(97% .014 254.604)",
            "100": "oklch(93.2% .032 255.585)",
            "200": "oklch(88.2% .059 254.128)",
            "300": "oklch(80.9% .105 251.813)",
            "400": "oklch(70.7% .165 254.624)",
            "500": "oklch(62.3% .214 259.815)",
            "600": "oklch(54.6% .245 262.881)",
            "700": "oklch(48.8% .243 264.376)",
            "800": "oklch(42.4% .199 265.638)",
            "900": "oklch(37.9% .146 265.522)",
            "950": "oklch(28.2% .091 267.935)",
        },
        "font": {"subtle-light": "var(--color-base-600)", "subtle-dark": "var(--color-base-300)"},
    },
    "SIDEBAR": {
        "show_search": True,
        "navigation": [
            {
                "title": "Shards",
                "items": [
                    _page("Shards", "dns", "shards.shard"),
                    _page("Pools", "workspaces", "shards.pool"),
                    _page("Templates", "layers", "shards.shardtemplate"),
                    _page("Assignments", "key", "shards.assignment"),
                    _PREVIEW,
                    _DASHBOARD,
                ],
            },
            {
                "title": "What happened",
                "separator": True,
                "items": [
                    _page("Operations", "construction", "shards.operation"),
                    _page("Scaling decisions", "trending_up", "shards.scalingdecision"),
                    _page("Drains and pauses", "pause_circle", "shards.closure"),
                    _page("Audit log", "receipt_long", "tenants.auditentry"),
                ],
            },
            {
                "title": "Jobs and tenants",
                "separator": True,
                "items": [
                    _page("Jobs", "work", "jobs.job"),
                    _page("Tenants", "apartment", "tenants.tenant"),
                    _page("API keys", "vpn_key", "tenants.apikey"),
                    _page("Secrets", "lock", "tenants.secret"),
                    _page("Users", "person", "auth.user"),
                    _page("Groups", "group", "auth.group"),
                ],
            },
        ],
    },
}
