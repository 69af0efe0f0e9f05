"""Page of a job without a stack: the real template and modules, with routes that a test controls."""

from __future__ import annotations

import json
import mimetypes
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from django.template.loader import render_to_string
from playwright.sync_api import BrowserContext, Page, Route, WebSocketRoute

from myctobot.stack.plan import CHECKOUT
from myctobot.web.security_headers import PAGE_POLICY

ORIGIN: Final = "http://console.test"
STATIC: Final = CHECKOUT / "myctobot" / "dashboards" / "static" / "dashboards"
SCRIPTS: Final = CHECKOUT / "tests" / "browser" / "js"
JOB_ID: Final = "job_test"
AT: Final = "2026-01-01T00:00:{:02d}Z"

# A busy machine needs this long for twenty thousand rows.
SHOWN_TIMEOUT_MS: Final = 150_000
_PAGE: Final = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Job</title>
<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/static/dashboards/app.css">
<link rel="stylesheet" href="/static/dashboards/log.css"></head><body>
<main id="job" class="wide" data-job-id="{job_id}" data-live="{live}" data-last-seq="{last}"
 data-ws="/ws/jobs/{job_id}/" data-sse="/sse" data-events="/events" data-login="/login/?next=here">
<h1>A job</h1>{log}</main>
<script type="module" src="/static/dashboards/job.js"></script></body></html>"""


def event(seq: int, kind: str, /, **data: Any) -> dict[str, Any]:
    return {"seq": seq, "at": AT.format(seq % 60), "kind": kind, "data": data}


def messages(first: int, last: int) -> list[dict[str, Any]]:
    return [event(seq, "agent.message", text=f"message {seq}") for seq in range(first, last + 1)]


@dataclass
class FakeConsole:
    """Server of one job's page and its events; ``send`` sends more events over the open WebSocket."""

    context: BrowserContext
    events: list[dict[str, Any]] = field(default_factory=list)
    status: str = "running"
    sockets: list[WebSocketRoute] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.context.route(f"{ORIGIN}/**", self._answer)
        self.context.route_web_socket("ws://console.test/**", self._connect)

    def open(self, page: Page) -> Page:
        """Open the page, and wait until it shows every event."""
        page.goto(f"{ORIGIN}/jobs/")
        self.wait_shown(page)
        return page

    def wait_shown(self, page: Page) -> None:
        last = self.events[-1]["seq"] if self.events else 0
        if last:
            shown = f'#log-rows[data-last-seq="{last}"][data-settled=true]'
            # A locator's own checks take seconds on a page with thousands of rows.
            page.wait_for_function("(shown) => document.querySelector(shown)", arg=shown, timeout=SHOWN_TIMEOUT_MS)

    def send(self, page: Page, *events: dict[str, Any]) -> None:
        self.events.extend(events)
        self.sockets[-1].send(json.dumps({"events": events}))
        self.wait_shown(page)

    def end(self, status: str = "completed") -> None:
        last = {"kind": "end", "data": {"count": self.events[-1]["seq"], "status": status}}
        self.sockets[-1].send(json.dumps({"events": [last]}))

    def _connect(self, socket: WebSocketRoute) -> None:
        self.sockets.append(socket)
        after = int(parse_qs(urlsplit(socket.url).query)["after"][0])
        socket.send(json.dumps({"events": self._after(after)}))

    def _after(self, seq: int) -> list[dict[str, Any]]:
        return [one for one in self.events if one["seq"] > seq]

    def _answer(self, route: Route) -> None:
        url = urlsplit(route.request.url)
        name = Path(url.path).name
        if url.path.startswith("/static/"):
            self._send_file(route, STATIC / name)
        elif url.path.startswith("/scripts/"):
            self._send_file(route, SCRIPTS / name)
        elif url.path == "/events":
            query = parse_qs(url.query)
            found = self._after(int(query["after"][0]))[: int(query["limit"][0])]
            route.fulfill(json={"events": found})
        elif url.path == "/jobs/":
            route.fulfill(body=self._page(), content_type="text/html", headers={"Content-Security-Policy": PAGE_POLICY})
        else:
            route.fulfill(status=404)

    def _send_file(self, route: Route, path: Path) -> None:
        route.fulfill(body=path.read_bytes(), content_type=mimetypes.guess_type(path.name)[0] or "text/plain")

    def _page(self) -> str:
        log = render_to_string("dashboards/_log.html", {"job": SimpleNamespace(public_id=JOB_ID, status=self.status)})
        last = self.events[-1]["seq"] if self.events else 0
        live = "true" if self.status in ("queued", "running") else "false"
        return _PAGE.format(job_id=JOB_ID, live=live, last=last, log=log)
