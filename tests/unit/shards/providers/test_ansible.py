from __future__ import annotations

from typing import Any

import pytest
import yaml

from shards.providers.ansible import as_yaml, failure_message


class _Loader(yaml.SafeLoader):
    pass


_Loader.add_constructor("!unsafe", lambda loader, node: ("unsafe", node.value))


@pytest.mark.parametrize(
    "text", ["plain", "{{ lookup('pipe', 'id') }}", '"quoted"\\', "two\nlines", "", "é€😀", "- x: {y}", "\x7f\x00"]
)
def test_every_text_is_marked_so_that_ansible_does_not_run_it(text: str) -> None:
    loader = _Loader(as_yaml({"a": text, "b": [text]}))
    read = loader.get_single_data()
    assert read == {"a": ("unsafe", text), "b": [("unsafe", text)]}


@pytest.mark.parametrize("value", [True, 7, 1.5, None, [], {}])
def test_other_values_stay_what_they_are(value: Any) -> None:
    assert yaml.safe_load(as_yaml({"a": value})) == {"a": value}


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ({"msg": "no such package"}, "no such package"),
        ({"msg": "Task failed: Connection refused"}, "Connection refused"),
        ({"msg": "non-zero return code", "stderr": "a\nb\nc\nd\n"}, "non-zero return code b c d"),
        ({"module_stderr": "Traceback"}, "Traceback"),
        ({"censored": "hidden", "msg": "x"}, "it failed; its message is hidden because it may contain a secret"),
        ({}, "it failed without a message"),
    ],
)
def test_a_failed_task_is_reported_with_its_message(result: dict[str, Any], words: str) -> None:
    assert failure_message(result) == words
