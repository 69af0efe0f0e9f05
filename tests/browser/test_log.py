"""Live log of a job: rows, following, search, filters and keys, with events that the test sends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.browser.console import FakeConsole, event, messages
from tests.fixtures.chromium import find_chromium, launch, new_tab

pytestmark = pytest.mark.needs("chromium")

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>\u202e\x1b[31m\x07"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    program = find_chromium()
    assert program is not None
    with sync_playwright() as playwright:
        running = launch(playwright, program)
        yield running
        running.close()


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    opened = chromium.new_context(viewport={"width": 1280, "height": 800})
    yield opened
    opened.close()


@pytest.fixture
def console(context: BrowserContext) -> FakeConsole:
    return FakeConsole(context)


@pytest.fixture
def page(context: BrowserContext, console: FakeConsole) -> Iterator[Page]:
    with new_tab(context) as tab:
        yield tab.page
        assert tab.complaints == []


def distance_to_end(page: Page) -> float:
    """Return the distance to the end of the page in pixels."""
    end: float = page.evaluate("document.documentElement.scrollHeight - innerHeight - scrollY")
    return end


def call(seq: int, name: str = "Bash", **arguments: Any) -> dict[str, Any]:
    return event(seq, "tool.call", id=f"call-{seq}", name=name, input=arguments)


def result(seq: int, of: int, output: str = "fine", is_error: bool = False) -> dict[str, Any]:
    return event(seq, "tool.result", id=f"call-{of}", output=output, is_error=is_error)


def test_the_page_of_a_queued_job_has_an_empty_log(console: FakeConsole, page: Page) -> None:
    console.status = "queued"
    console.open(page)
    expect(page.get_by_text("Nothing yet: the job has not started.")).to_be_visible()
    expect(page.locator("#log-state")).to_have_text("Live")


def test_events_appear_and_refresh_the_header(console: FakeConsole, page: Page) -> None:
    console.open(page)
    page.evaluate("window.changes = 0; document.body.addEventListener('job-changed', () => window.changes += 1)")
    console.send(page, event(1, "job.phase", phase="cloning"), *messages(2, 3))
    expect(page.locator("#log-rows > li")).to_have_count(3)
    expect(page.locator("#log-empty")).to_be_hidden()
    page.wait_for_timeout(800)
    console.end("failed")
    expect(page.locator("#log-state")).to_have_text("Ended: failed")
    page.wait_for_timeout(800)
    assert page.evaluate("window.changes") == 2


def test_the_border_between_attempts_is_shown(console: FakeConsole, page: Page) -> None:
    lost = event(2, "tool.call", id="1", name="Bash", input={"command": "make"})
    console.events = [event(1, "job.phase", phase="preparing"), lost]
    console.open(page)
    expect(page.locator("[data-attempt]")).to_have_count(0)
    again = event(3, "job.phase", phase="preparing", detail="attempt 2")
    console.send(page, again, event(4, "job.result", outcome="failed", error={"code": "disk", "message": "Full."}))
    # A call of a lost attempt gets no answer.
    expect(page.locator("[data-seq='2'] .state")).to_have_text("no answer")
    expect(page.locator("[data-attempt='attempt 2']")).to_contain_text("Preparing attempt 2")
    expect(page.locator("[data-outcome=failed]")).to_contain_text("The attempt failed")
    page.get_by_role("button", name="Phases").click()
    expect(page.locator("[data-attempt]")).to_be_visible()


@pytest.mark.parametrize(
    "hostile",
    [
        event(1, "agent.message", text=HOSTILE),
        event(1, "agent.thinking", text=HOSTILE),
        event(1, "tool.call", id=HOSTILE, name=HOSTILE, input={HOSTILE: HOSTILE}),
        event(1, "tool.call", id="1", name="Edit", input={"file_path": HOSTILE, "new_string": HOSTILE}),
        event(1, "tool.call", id="1", name="Bash", input={"command": HOSTILE, "description": HOSTILE}),
        event(1, "tool.call", id="1", name="constructor", input=HOSTILE),
        event(1, "tool.result", id="1", output=HOSTILE, is_error=True),
        event(1, "log.line", source=HOSTILE, text=HOSTILE),
        event(1, "git.diff", patch=f"diff --git a/{HOSTILE} b/{HOSTILE}\n@@ -1 +1 @@\n-{HOSTILE}\n+x\n", files=HOSTILE),
        event(1, "git.diff", patch=HOSTILE, truncated=True),
        event(1, "git.pushed", branch=HOSTILE, sha=HOSTILE),
        event(1, "job.warning", code=HOSTILE, message=HOSTILE),
        event(1, "job.phase", phase=HOSTILE, detail=HOSTILE),
        event(
            1, "job.result", outcome=HOSTILE, result={"summary": HOSTILE}, error={"code": HOSTILE, "message": HOSTILE}
        ),
        event(
            1, "agent.started", model=HOSTILE, tools=[HOSTILE], mcp_servers=[{"name": HOSTILE, "status": HOSTILE}, 5]
        ),
        event(1, "event.truncated", kind=HOSTILE, bytes=HOSTILE, start=HOSTILE),
        event(1, "log.dropped", first_seq=1, events=HOSTILE, bytes=HOSTILE, reason=HOSTILE),
        {**event(1, "agent.message"), "data": None},
    ],
    ids=lambda one: one["kind"],
)
def test_hostile_events_are_shown_as_text_and_the_log_continues(
    console: FakeConsole, page: Page, hostile: dict[str, Any]
) -> None:
    page.on("dialog", lambda dialog: pytest.fail("a script ran"))
    console.events = [hostile, *messages(2, 2)]
    console.open(page)
    expect(page.get_by_text("message 2")).to_be_visible()
    page.evaluate("for (const row of document.querySelectorAll('#log-rows > li')) row.row.unfold()")
    rows = page.locator("#log-rows")
    expect(rows.locator("img, script")).to_have_count(0)
    shown = rows.evaluate("(rows) => rows.textContent")
    assert not set(shown) & {"\u202e", "\x1b", "\x07"}


def test_a_call_and_its_result_share_a_row(console: FakeConsole, page: Page) -> None:
    console.open(page)
    console.send(page, call(1, command="make test", description="Run the tests"))
    row = page.locator("#log-rows > li")
    expect(row.locator(".state")).to_have_text("running")
    row.locator("summary").click()
    console.send(page, result(2, 1, "3 failed", is_error=True))
    expect(row).to_have_count(1)
    expect(row.locator(".state")).to_contain_text("error")
    expect(row.get_by_role("group", name="Output")).to_have_text("3 failed")


def test_missing_events_and_texts_are_shown(console: FakeConsole, page: Page) -> None:
    console.events = [
        event(1, "agent.message", text="a"),
        event(9, "log.dropped", first_seq=2, events=8, bytes=3 * 1024 * 1024, reason="bound"),
        call(10, command="cat big"),
        event(11, "event.truncated", kind="tool.result", bytes=2048, start='{"id":"call-10","output":"beginning'),
        event(12, "event.truncated", kind="agent.message", bytes=500, start='{"text":"b'),
    ]
    console.open(page)
    expect(page.get_by_text("8 events (3 MiB) were removed")).to_be_visible()
    expect(page.get_by_text("500 bytes are missing")).to_be_visible()
    page.get_by_text("cat big").click()
    expect(page.get_by_text("2 KiB are missing")).to_be_visible()


def test_consecutive_lines_of_one_source_share_a_row(console: FakeConsole, page: Page) -> None:
    lines = [event(seq, "log.line", source="git" if seq < 4 else "runner", text=f"line {seq}") for seq in range(1, 7)]
    console.events = [*lines, *messages(7, 7), event(8, "log.line", source="runner", text="line 8")]
    console.open(page)
    assert [row.count("line ") for row in page.locator("#log-rows > li pre").all_inner_texts()] == [3, 3, 1]


def test_following_stops_on_scrolling_up_and_resumes_at_the_end(console: FakeConsole, page: Page) -> None:
    console.events = messages(1, 300)
    console.open(page)
    assert distance_to_end(page) < 5
    console.send(page, *messages(301, 320))
    assert distance_to_end(page) < 5
    page.mouse.wheel(0, -600)
    jump = page.locator("#log-jump")
    expect(jump).to_be_visible()
    place = page.evaluate("scrollY")
    console.send(page, *messages(321, 350))
    expect(jump).to_have_text("Jump to end (30 new)")
    assert page.evaluate("scrollY") == place
    page.keyboard.press("G")
    expect(jump).to_be_hidden()
    expect(page.locator("#log-follow")).to_have_attribute("aria-pressed", "true")
    assert distance_to_end(page) < 5


def test_a_running_job_opens_at_its_newest_output_also_where_the_reader_was_elsewhere(
    console: FakeConsole, page: Page
) -> None:
    console.events = messages(1, 300)
    console.open(page)
    page.mouse.wheel(0, -3000)
    expect(page.locator("#log-jump")).to_be_visible()
    page.reload()
    console.wait_shown(page)
    # The browser would restore the old place now.
    page.wait_for_timeout(500)
    assert distance_to_end(page) < 5
    expect(page.locator("#log-follow")).to_have_attribute("aria-pressed", "true")


def test_the_tab_follows_the_state_of_the_job(console: FakeConsole, page: Page) -> None:
    console.open(page)
    # htmx puts such a header into the page after each change.
    page.evaluate(
        """() => {
            document.head.insertAdjacentHTML("beforeend", '<link rel="icon" id="icon" href="/static/icon.svg">');
            const header = "<section id='job-header' data-title='✓ <b>Done</b>' data-icon='/static/icon-failed.svg'>";
            document.body.insertAdjacentHTML("beforeend", header);
            document.body.dispatchEvent(new CustomEvent("htmx:afterSwap", { bubbles: true }));
        }"""
    )
    assert page.title() == "✓ <b>Done</b>"
    assert page.locator("#icon").get_attribute("href") == "/static/icon-failed.svg"


def test_search_finds_folded_text_and_wraps_around(console: FakeConsole, page: Page) -> None:
    filler = messages(3, 120)
    console.events = [call(1, command="ls"), result(2, 1, "A Needle here"), *filler, *messages(121, 121)]
    console.events.append(event(122, "agent.message", text="another needle"))
    console.open(page)
    page.keyboard.press("/")
    page.keyboard.type("needle")
    found = page.locator("#log-found")
    expect(found).to_have_text("2 found")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    page.locator("#log-search").blur()
    page.keyboard.press("n")
    seen = {found.inner_text()}
    page.keyboard.press("N")
    seen.add(found.inner_text())
    assert seen == {"1 of 2", "2 of 2"}
    while found.inner_text() != "1 of 2":
        page.keyboard.press("n")
    expect(page.get_by_text("A Needle here")).to_be_in_viewport()
    assert page.evaluate("CSS.highlights.get('found').size") == 2


def test_shortcuts_are_off_in_a_text_field(console: FakeConsole, page: Page) -> None:
    console.events = messages(1, 3)
    console.open(page)
    page.locator("#log-search").fill("")
    page.locator("#log-search").press_sequentially("f?nG")
    expect(page.locator("#log-search")).to_have_value("f?nG")
    expect(page.locator("#log-help")).to_be_hidden()
    page.keyboard.press("Escape")
    page.keyboard.press("Control+f")
    expect(page.locator("#log-follow")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()


def test_groups_can_be_hidden(console: FakeConsole, page: Page) -> None:
    console.events = [*messages(1, 2), call(3, command="ls"), event(4, "job.warning", code="w", message="Beware")]
    console.open(page)
    button = page.get_by_role("button", name="Messages 2")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "false")
    expect(page.get_by_text("message 1")).to_be_hidden()
    expect(page.get_by_text("Beware")).to_be_visible()
    button.click()
    expect(page.get_by_text("message 1")).to_be_visible()


def wait_for(page: Page, condition: str) -> None:
    """Wait for a condition on a page with thousands of rows, where Playwright's own checks take seconds."""
    page.wait_for_function(f"() => {condition}", timeout=60_000, polling=250)


def test_a_flood_shows_a_limited_number_of_rows_and_loads_earlier_ones(console: FakeConsole, page: Page) -> None:
    console.open(page)
    console.send(page, *messages(1, 20_000))
    rows = page.locator("#log-rows > li")
    wait_for(page, "document.querySelector('#log-rows > li:last-child')?.dataset.seq === '20000'")
    assert rows.count() == 4_000
    assert distance_to_end(page) < 5
    first = page.locator('[data-seq="16001"]')
    # In the first seconds of a page, only a gesture counts as the reader's.
    page.keyboard.press("Home")
    expect(first).to_be_in_viewport()
    before = first.bounding_box()
    page.get_by_role("button", name="Load earlier (16,000 events above)").click()
    wait_for(page, "document.querySelector('#log-rows > li').dataset.seq === '15501'")
    wait_for(page, "document.querySelector('#log-earlier').textContent.includes('15,500 events above')")
    after = first.bounding_box()
    assert before
    assert after
    assert abs(after["y"] - before["y"]) < 2
    seqs = rows.evaluate_all("(rows) => rows.map((row) => Number(row.dataset.seq))")
    assert seqs == list(range(15_501, 20_001))


def test_a_page_with_slow_frames_changes_less_often(console: FakeConsole, page: Page) -> None:
    console.open(page)
    missing, frames = page.evaluate("""async () => {
        const { Log } = await import("/static/dashboards/log.js");
        const [list, frames] = [document.createElement("ol"), []];
        const onChange = (count) => {
            frames.push(count);
            const until = performance.now() + 100;
            while (performance.now() < until);
        };
        const log = new Log(list, { onChange });
        const pause = (ms) => new Promise((done) => setTimeout(done, ms));
        const end = performance.now() + 3000;
        for (let seq = 1; performance.now() < end; seq += 1) {
            log.push([{ seq, at: "2026-01-01T00:00:00Z", kind: "agent.message", data: { text: String(seq) } }]);
            await pause(5);
        }
        while (log.waiting) await pause(50);
        return [list.childElementCount - frames.reduce((sum, count) => sum + count, 0), frames.length];
    }""")
    assert missing == 0
    # Each frame of 100 ms is followed by a pause of 300 ms, so three seconds hold about ten.
    assert 3 <= frames <= 13


def test_a_long_log_opens_with_its_newest_events(console: FakeConsole, page: Page) -> None:
    console.status = "completed"
    console.events = [*messages(1, 400), call(401, command="ls"), *messages(402, 1402), result(1403, 401)]
    console.open(page)
    assert page.locator("#log-rows > li").first.get_attribute("data-seq") == "404"
    expect(page.get_by_text("of a call that is not loaded")).to_have_count(1)
    # Times are relative to the first event, which is not loaded.
    expect(page.locator('[data-seq="404"] .at')).to_have_text("0:43")
    page.get_by_role("button", name="Load earlier").click()
    # The call is loaded now and shows its result.
    expect(page.locator('[data-seq="401"] .state')).to_contain_text("done")
    expect(page.get_by_text("of a call that is not loaded")).to_have_count(0)
    expect(page.get_by_role("button", name="Load earlier")).to_be_hidden()
    assert page.locator("#log-rows > li").count() == 1402


def test_a_row_is_copied_as_text(console: FakeConsole, context: BrowserContext, page: Page) -> None:
    # The clipboard API needs HTTPS, so the page uses the copy command of the browser.
    console.events = [call(1, command="ls -l"), result(2, 1, "total 0")]
    console.open(page)
    page.locator("#log-rows > li").hover()
    page.get_by_role("button", name="Copy this entry").click()
    expect(page.locator("#log-said")).to_have_text("Copied the entry")
    page.locator("#log-search").focus()
    page.keyboard.press("Control+v")
    assert "ls -l" in page.locator("#log-search").input_value()


def test_a_broken_connection_is_shown_and_resumed(console: FakeConsole, page: Page) -> None:
    console.events = messages(1, 2)
    console.open(page)
    console.sockets[-1].close(code=1012)
    state = page.locator("#log-state")
    expect(state).to_contain_text("reconnecting")
    expect(state).to_have_text("Live")
    assert console.sockets[-1].url.endswith("?after=2")


def test_an_ended_session_shows_a_link_to_the_login(console: FakeConsole, page: Page) -> None:
    console.open(page)
    console.sockets[-1].close(code=4401)
    expect(page.get_by_role("link", name="Log in again")).to_have_attribute("href", "/login/?next=here")


def test_the_log_fits_on_a_phone(console: FakeConsole, page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    wide = "x" * 500
    console.events = [
        event(1, "agent.message", text=wide),
        call(2, name="m" * 80, command=wide),
        event(
            3, "git.diff", patch=f"diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-{wide}\n+y\n", files=1, commits=1
        ),
        event(4, "log.line", source="git", text=wide),
        event(5, "git.pushed", branch=wide, sha="a" * 40),
    ]
    console.open(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
