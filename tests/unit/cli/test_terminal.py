from __future__ import annotations

import io

import pytest

from myctobot.cli.terminal import OutputLine, Style, Terminal, printable, rows


class FakeTty(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(output: io.StringIO, environ: dict[str, str]) -> str:
    Terminal(output, environ).show(OutputLine("fine", Style.GREEN))
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
def test_only_terminals_that_support_colours_get_them(
    output: io.StringIO, environ: dict[str, str], coloured: bool
) -> None:
    assert printed(output, environ) == ("\x1b[32mfine\x1b[0m\n" if coloured else "fine\n")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("\x1b[2J\x1b[31mred\x1b(B\x1b[m", "red"),
        ("a\rb\bc\x00", "abc"),
        ("\tcode", "    code"),
        ("\x9b31m", "31m"),
        ("right\u202eleft", "rightleft"),
        ("grün ✓", "grün ✓"),
    ],
)
def test_an_agents_text_cannot_control_the_terminal(text: str, left: str) -> None:
    assert printable(text) == left


def test_text_is_wrapped_below_its_prefix() -> None:
    assert rows(OutputLine("one two three four five six", indent=2, prefix="● "), 24) == [
        "  ● one two three four",
        "    five six",
    ]


def test_code_is_cut_at_the_edge() -> None:
    assert rows(OutputLine("x" * 100, indent=4, wrap=False), 34) == ["    " + "x" * 29 + "…"]


def test_an_empty_line_has_no_trailing_blanks() -> None:
    assert rows(OutputLine("", indent=4), 80) == [""]


def test_lines_have_no_limit_without_a_terminal() -> None:
    output, text = io.StringIO(), "word " * 100
    Terminal(output, {}, plain_width=None).show_all([OutputLine(text, indent=2), OutputLine("x" * 300, wrap=False)])
    assert output.getvalue() == f"  {text.rstrip()}\n{'x' * 300}\n"
