"""JavaScript modules of a job's page in a real browser: the stream, text cleaning and patches."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

from myctobot.contract.jobs import EventKind
from tests.browser.console import ORIGIN, STATIC, FakeConsole
from tests.fixtures.chromium import find_chromium, launch
from tests.fixtures.hostile_texts import SHOWN

pytestmark = pytest.mark.needs("chromium")

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def blank() -> Iterator[Page]:
    """Open a page of the console's origin, so that it can import modules."""
    program = find_chromium()
    assert program is not None
    with sync_playwright() as playwright:
        running = launch(playwright, program)
        context = running.new_context()
        FakeConsole(context)
        page = context.new_page()
        page.goto(f"{ORIGIN}/static/dashboards/icon.svg")
        yield page
        running.close()


@pytest.fixture
def world(blank: Page) -> Run:
    """Return a function that runs a scenario, ``(w, event, end, mark) => …``, in a new World of js/harness.js."""

    def run(scenario: str, **options: Any) -> Any:
        script = f"""async (options) => {{
            const {{ World, event, end, mark }} = await import("/scripts/harness.js");
            const w = new World(options);
            return await (async () => {{ {scenario} }})();
        }}"""
        return blank.evaluate(script, options)

    return run


@pytest.mark.parametrize(
    ("batches", "seqs", "sockets"),
    [
        ("[[event(1), event(2)], [event(3)]]", [1, 2, 3], 1),
        ("[[event(1), event(2)], [event(1), event(2), event(3)]]", [1, 2, 3], 1),
        ("[[]]", [], 1),
        # The stream takes the events before a gap and requests the rest again.
        ("[[event(1), event(3)]]", [1], 2),
        ("[[event(2)]]", [], 2),
        ("[[event(1), mark(2, 9), event(10)]]", [1, 9, 10], 1),
        ("[[event(1), event(2), mark(2, 9), event(10)]]", [1, 2, 9, 10], 1),
        ("[[event(1), mark(3, 9)]]", [1], 2),
        ("[[{kind: 'agent.message'}]]", [], 2),
        ("[[null]]", [], 2),
    ],
)
def test_the_stream_takes_every_event_once_and_in_order(
    world: Run, batches: str, seqs: list[int], sockets: int
) -> None:
    found = world(f"""
        for (const batch of {batches}) w.socket.deliver(...batch);
        if (w.state === "reconnecting") w.advance(w.nextTimerMs);
        return [w.seqs, w.sockets.length, w.socket.url];
    """)
    last = f"?after={seqs[-1] if seqs and sockets == 2 else 0}"
    assert found == [seqs, sockets, f"ws://x/ws{last}"]


def test_an_invalid_message_reconnects(world: Run) -> None:
    assert world("w.socket.onmessage({ data: 'x' }); return [w.state, w.sockets[0].closed]") == ["reconnecting", True]


def test_a_broken_connection_resumes_after_the_last_number(world: Run) -> None:
    found = world(
        """
        w.socket.deliver(event(6)); w.reconnect(1012); w.socket.deliver(event(6), event(7));
        return [w.seqs, w.socket.url, w.states.map(([state]) => state)];
    """,
        after=5,
    )
    assert found[:2] == [[6, 7], "ws://x/ws?after=6"]
    assert found[2] == ["connecting", "live", "reconnecting", "reconnecting", "live"]


def test_messages_of_an_abandoned_connection_are_ignored(world: Run) -> None:
    assert world("""
        const old = w.socket; w.reconnect(); old.deliver(event(1)); old.onclose({ code: 4404 });
        return [w.seqs, w.state];
    """) == [[], "reconnecting"]


def test_server_sent_events_replace_the_websocket_until_it_returns(world: Run) -> None:
    found = world("""
        w.reconnect(); w.reconnect();
        w.source.onopen(); w.source.deliver(event(1)); w.source.deliver(event(2));
        const before = [w.sockets.length, w.source.url, w.state, w.detail.way];
        w.reconnect();
        return [...before, w.source.closed, w.sockets.length, w.socket.url, w.seqs];
    """)
    assert found == [2, "/sse?after=0", "live", "sse", True, 3, "ws://x/ws?after=2", [1, 2]]


def test_both_transports_are_tried_in_turn_while_no_server_answers(world: Run) -> None:
    found = world("for (let n = 0; n < 8; n += 1) w.reconnect(); return [w.sockets.length, w.sources.length]")
    assert found == [5, 4]


@pytest.mark.parametrize(("passed_ms", "state"), [(44_000, "live"), (45_000, "reconnecting")])
def test_silence_counts_as_a_broken_connection(world: Run, passed_ms: int, state: str) -> None:
    assert (
        world(f"w.socket.deliver(); w.advance(44_000); w.socket.deliver(); w.advance({passed_ms}); return w.state")
        == state
    )


def test_an_open_connection_is_live_before_its_first_event(world: Run) -> None:
    assert world("w.socket.onopen(); const at = w.state; w.advance(500); return [at, w.state]") == [
        "connecting",
        "live",
    ]


@pytest.mark.parametrize("code", [4400, 4401, 4403, 4404])
def test_a_refusal_is_final_and_has_a_message(world: Run, code: int) -> None:
    state, login, message, due = world(
        f"w.socket.onopen(); w.disconnect({code}); return [w.state, w.detail.login, w.detail.message, w.nextTimerMs]"
    )
    assert (state, login, due) == ("refused", code == 4401, None)
    assert message.endswith(".")


@pytest.mark.parametrize(("status", "state"), [(401, "refused"), (404, "refused"), (503, "reconnecting")])
def test_a_failed_event_source_requests_the_reason_from_the_server(world: Run, status: int, state: str) -> None:
    script = (
        "w.reconnect(); w.reconnect(); w.disconnect(); await new Promise((done) => setTimeout(done)); return w.state"
    )
    assert world(script, status=status) == state


def test_an_end_closes_the_stream(world: Run) -> None:
    found = world("""
        w.socket.deliver(event(1), end(1, "failed")); const socket = w.socket; socket.onclose({ code: 1000 });
        return [w.state, w.detail, socket.closed, w.nextTimerMs, w.sockets.length];
    """)
    assert found == ["ended", {"status": "failed", "count": 1}, True, None, 1]


def test_an_end_with_a_higher_count_is_a_gap(world: Run) -> None:
    assert world("w.socket.deliver(event(1), end(2)); return [w.state, w.seqs]") == ["reconnecting", [1]]


@pytest.mark.parametrize("chance", [0, 0.999])
def test_pauses_between_attempts_grow_up_to_a_bound(world: Run, chance: float) -> None:
    waits = world(
        """
        const waits = [];
        for (let n = 0; n < 9; n += 1) {
            w.disconnect(); waits.push(w.nextTimerMs); w.advance(w.nextTimerMs);
        }
        return waits;
    """,
        random=chance,
    )
    assert waits == sorted(waits)
    assert waits[0] >= 500
    assert waits[-1] <= 10_000
    assert waits[-1] > 9_000 or chance == 0


def test_a_wake_reconnects_at_once(world: Run) -> None:
    assert world("w.disconnect(); w.stream.wake(); w.stream.wake(); return [w.sockets.length, w.state]") == [
        2,
        "reconnecting",
    ]


@pytest.mark.parametrize(("status", "state"), [(200, "live"), (401, "refused"), (404, "refused"), (503, "live")])
def test_a_refusal_of_another_request_ends_the_stream(world: Run, status: int, state: str) -> None:
    script = f"w.socket.deliver(event(1)); w.stream.answered({status}); return [w.state, !!w.socket.closed]"
    assert world(script) == [state, state == "refused"]


def test_a_refusal_after_the_end_is_ignored(world: Run) -> None:
    assert world("w.socket.deliver(event(1), end(1)); w.stream.answered(401); return w.state") == "ended"


def test_an_event_source_listens_for_every_event_kind() -> None:
    source = (STATIC / "stream.js").read_text()
    listed = re.search(r"const KINDS = \[(.*?)\]", source, re.DOTALL)
    assert listed
    assert sorted(re.findall(r'"([^"]+)"', listed[1])) == sorted(EventKind)


@pytest.mark.parametrize(("text", "shown"), [*SHOWN, ({"a": ["\x1b[31m"]}, '{\n  "a": [\n    "\\u001b[31m"\n  ]\n}')])
def test_text_is_sanitized(blank: Page, text: Any, shown: str) -> None:
    assert blank.evaluate("async (text) => (await import('/static/dashboards/text.js')).clean(text)", text) == shown


PATCH = """diff --git a/old name.py b/new name.py
similarity index 90%
rename from old name.py
rename to new name.py
--- a/old name.py\t
+++ b/new name.py\t
@@ -1,2 +1,2 @@ def f():
--- a removed line that looks like a header
+++ an added one
 same
\\ No newline at end of file
diff --git a/logo.png b/logo.png
new file mode 100644
Binary files /dev/null and b/logo.png differ
diff --git a/gone b/gone
deleted file mode 100644
--- a/gone
+++ /dev/null
@@ -1 +0,0 @@
-x
"""


def test_a_patch_is_split_into_files(blank: Page) -> None:
    files = blank.evaluate("async (text) => (await import('/static/dashboards/diff.js')).parsePatch(text)", PATCH)
    assert [(one["name"], one["insertions"], one["deletions"]) for one in files] == [
        ("new name.py", 1, 1),
        ("logo.png", 0, 0),
        ("gone", 0, 1),
    ]
    assert [(line["sign"], line["number"]) for line in files[0]["lines"]] == [
        ("@", None), ("-", 1), ("+", 1), (" ", 2), ("\\", None),
    ]  # fmt: skip
    assert files[1]["notes"][-1].startswith("Binary files")


def test_the_log_never_parses_text_as_markup() -> None:
    shortcuts = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser")
    modules = [path for path in STATIC.glob("*.js") if path.name != "page.js"]
    assert len(modules) > 5
    assert [path.name for path in modules if shortcuts.search(path.read_text())] == []
