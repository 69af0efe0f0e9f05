from __future__ import annotations

from typing import Any

import pytest
import yaml

from shards.providers.ansible import as_yaml, words_of


class _Loader(yaml.SafeLoader):
    pass


_Loader.add_constructor("!unsafe", lambda loader, node: ("as it stands", node.value))


@pytest.mark.parametrize(
    "text", ["plain", "{{ lookup('pipe', 'id') }}", '"quoted"\\', "two\nlines", "", "é€😀", "- x: {y}", "\x7f\x00"]
)
def test_every_text_is_marked_so_that_ansible_does_not_run_it(text: str) -> None:
    loader = _Loader(as_yaml({"a": text, "b": [text]}))
    read = loader.get_single_data()
    assert read == {"a": ("as it stands", text), "b": [("as it stands", text)]}


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
        ({"censored": "hidden", "msg": "x"}, "it failed, and what it says may hold a secret"),
        ({}, "it failed without a word"),
    ],
)
def test_a_failed_task_is_told_in_its_own_words(result: dict[str, Any], words: str) -> None:
    assert words_of(result) == words
