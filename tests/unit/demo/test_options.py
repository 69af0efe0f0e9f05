from __future__ import annotations

from pathlib import Path

import pytest

from myctobot.demo.errors import DemoFailed
from myctobot.demo.options import read_options

KEY = "sk-ant-canary-of-the-demo"


def test_the_scripted_model_is_the_default_and_uses_no_key() -> None:
    options = read_options({"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": "http://elsewhere.example"})
    assert options.is_scripted
    assert options.anthropic_api_key is None
    assert dict(options.environ) == {"GATEWAY_UPSTREAM": "scripted"}


def test_a_real_model_needs_a_request_and_its_key_stays_out_of_the_stacks_environment() -> None:
    options = read_options({"DEMO_UPSTREAM": "anthropic", "ANTHROPIC_API_KEY": KEY})
    assert options.anthropic_api_key == KEY
    assert dict(options.environ) == {"GATEWAY_UPSTREAM": "anthropic"}
    assert KEY not in repr(options)


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"DEMO_UPSTREAM": "openai"}, "DEMO_UPSTREAM"),
        ({"DEMO_UPSTREAM": "anthropic"}, "ANTHROPIC_API_KEY"),
        ({"DEMO_UPSTREAM": "anthropic", "ANTHROPIC_API_KEY": ""}, "ANTHROPIC_API_KEY"),
    ],
)
def test_an_invalid_variable_is_refused_by_name(environ: dict[str, str], named: str) -> None:
    with pytest.raises(DemoFailed, match=named):
        read_options(environ)


def test_the_stack_gets_only_the_variables_that_it_needs() -> None:
    environ = {"PATH": "/bin", "HOME": "/home/ada", "DATABASE_URL": "postgresql://x", "AWS_SECRET_ACCESS_KEY": "s"}
    assert dict(read_options(environ).environ) == {"PATH": "/bin", "HOME": "/home/ada", "GATEWAY_UPSTREAM": "scripted"}


def test_the_home_can_be_chosen(tmp_path: Path) -> None:
    assert read_options({"MYCTOBOT_HOME": str(tmp_path)}).root == tmp_path


def test_a_missing_sandbox_must_be_accepted_explicitly() -> None:
    assert not read_options({}).allow_unsandboxed
    assert read_options({"DEMO_ALLOW_UNSANDBOXED": "1"}).allow_unsandboxed
