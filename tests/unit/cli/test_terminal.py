from __future__ import annotations

import io

import pytest

from myctobot.cli.terminal import Line, Style, Terminal, harmless, rows


class FakeTty(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(output: io.StringIO, environ: dict[str, str]) -> str:
    Terminal(output, environ).show(Line("fine", Style.GREEN))
    return output.getvalue()


@pytest.mark.parametrize(
    ("output", "environ", "coloured"),
    [
        (FakeTty(), {"TERM": "xterm"}, True),
        (FakeTty(), {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (FakeTty(), {"TERM": "xterm", "NO_COLOR": ""}, True),
        (FakeTty(), {"TERM": "dumb"}, False),
        (io.StringIO(), {"TERM": "xterm"}, False),
    ],
)
def test_colours_are_for_terminals_that_want_them(output: io.StringIO, environ: dict[str, str], coloured: bool) -> None:
    assert printed(output, environ) == ("\x1b[32mfine\x1b[0m\n" if coloured else "fine\n")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("\x1b[2J\x1b[31mred", "[2J[31mred"),
        ("a\rb\bc\x00", "abc"),
        ("\tcode", "    code"),
        ("\x9b31m", "31m"),
        ("right\u202eleft", "rightleft"),
        ("grün ✓", "grün ✓"),
    ],
)
def test_nothing_that_an_agent_prints_steers_the_terminal(text: str, left: str) -> None:
    assert harmless(text) == left


def test_prose_is_wrapped_below_its_mark() -> None:
    assert rows(Line("one two three four five six", indent=2, mark="● "), 24) == [
        "  ● one two three four",
        "    five six",
    ]


def test_code_is_cut_at_the_edge() -> None:
    assert rows(Line("x" * 100, indent=4, wrap=False), 34) == ["    " + "x" * 29 + "…"]


def test_an_empty_line_has_no_trailing_blanks() -> None:
    assert rows(Line("", indent=4), 80) == [""]


def test_what_is_no_terminal_gets_lines_as_long_as_they_are_if_it_wants() -> None:
    output, text = io.StringIO(), "word " * 100
    Terminal(output, {}, plain_width=None).show_all([Line(text, indent=2), Line("x" * 300, wrap=False)])
    assert output.getvalue() == f"  {text.rstrip()}\n{'x' * 300}\n"
