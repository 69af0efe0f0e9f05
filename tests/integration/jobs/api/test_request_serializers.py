"""Invalid requests get 400 with the name of the field, and nothing is stored."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobs.lifecycle.secrets import JobSecrets
from jobs.models import Job
from myctobot.contract.limits import MAX_BRANCH_LENGTH
from myctobot.contract.redaction import secret_encodings
from tests.factories.control_plane import Api, error_of
from tests.factories.requests import VALID, api, changed, put, refused, without

pytestmark = pytest.mark.django_db
__all__ = ["api"]


def test_the_example_is_valid(api: Api) -> None:
    response = api.post("/jobs", VALID)
    assert response.status_code == 201
    assert response.headers["Location"] == f"/api/v1/jobs/{response.json()['id']}"


@pytest.mark.parametrize(
    "path", ["extra", "task.extra", "context.extra", "task.REPO_URL", "task.", "context.__class__"]
)
def test_unknown_fields_are_named_with_those_that_exist(api: Api, path: str) -> None:
    error = refused(api, changed(path, "x"))
    assert list(error["fields"]) == [path.rstrip(".")]
    assert "known fields are" in error["message"]


@pytest.mark.parametrize(
    "path", ["task", "capabilities", "task.type", "task.prompt", "task.issue_key", "task.repo_url"]
)
def test_required_fields(api: Api, path: str) -> None:
    fields = refused(api, without(path))["fields"]
    assert path in fields


TEXTS = ["task.prompt", "task.issue_key", "task.repo_url", "task.branch", "task.base_branch"]
TEXTS += ["context.jira_cloud_id", "context.additional_instructions", "callback_url"]
SECRET_FIELDS = ["task.repo_token", "anthropic_api_key", "context.jira_token"]
NUMBERS = ["timeout_s", "max_turns"]
CHOICES = ["task.type", "priority", "on_failure"]
OBJECTS = ["task", "context"]


@pytest.mark.parametrize("path", [*TEXTS, *SECRET_FIELDS, *CHOICES, *OBJECTS])
@pytest.mark.parametrize("value", [None, True, 5, 1.5, [], ["x"], ""], ids=repr)
def test_texts_and_objects_of_another_type(api: Api, path: str, value: Any) -> None:
    assert path in refused(api, changed(path, value))["fields"]


@pytest.mark.parametrize("path", [*TEXTS, *CHOICES])
def test_an_object_is_no_text(api: Api, path: str) -> None:
    assert path in refused(api, changed(path, {"secret": "x"}))["fields"]


@pytest.mark.parametrize("path", NUMBERS)
@pytest.mark.parametrize(
    "value", [None, True, "60", 1.5, [], {}, -1, 0, 10**9, 10**400, "", 1e300], ids=lambda value: repr(value)[:12]
)
def test_numbers_that_are_none_or_impossible(api: Api, path: str, value: Any) -> None:
    assert list(refused(api, changed(path, value))["fields"]) == [path]


def test_a_number_with_an_empty_fraction_is_whole(api: Api) -> None:
    answer = api.post("/jobs", changed("timeout_s", 60.0))
    assert (answer.status_code, answer.json()["timeout_s"]) == (201, 60)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "git",
        {},
        {"0": "git"},
        [],
        [1],
        [None],
        [["git"]],
        ["Git"],
        ["git "],
        ["git\n"],
        [""],
        ["git\x00"],
        ["x" * 41],
        ["git@premium"],
        ["\ud800"],
        [f"c{number}" for number in range(21)],
    ],
    ids=lambda value: repr(value)[:20],
)
def test_capabilities(api: Api, value: Any) -> None:
    fields = refused(api, changed("capabilities", value))["fields"]
    assert all(name.startswith("capabilities") for name in fields)


@pytest.mark.parametrize("value", ["Normal", "urgent", "20", " normal", "\ud800"])
def test_priorities(api: Api, value: str) -> None:
    assert "priority" in refused(api, changed("priority", value))["fields"]


@pytest.mark.parametrize(
    "url",
    [
        "--upload-pack=touch /tmp/x;",
        "-oProxyCommand=touch",
        "ext::sh -c touch% /tmp/x",
        "ext::sh",
        "git@github.com:user/repo.git",
        "https://user:token@example.com/r",
        "https://token@example.com/r",
        "http://example.com/r",
        "git://example.com/r",
        "ssh://-oProxyCommand=x/r",
        "/etc/passwd",
        "https://example.com/../r",
        "https://example.com/r\n--upload-pack=x",
        "https://example.com/r\x00",
        "https://example.com/\ud800",
        "https://localhost/r",
        "https://git.localhost/r",
        "https://127.0.0.1/r",
        "https://127.1/r",
        "https://2130706433/r",
        "https://0x7f000001/r",
        "https://0177.0.0.1/r",
        "https://10.0.0.1/r",
        "https://192.168.1.1:8443/r",
        "https://100.64.0.1/r",
        "https://169.254.169.254/latest",
        "https://[::1]/r",
        "https://[::ffff:127.0.0.1]/r",
        "https://[64:ff9b::7f00:1]/r",
        "https://[2002:7f00:1::]/r",
        "https://[fe80::1%25eth0]/r",
        "ssh://git@10.0.0.1/r",
        "https://example.com/" + "x" * 2000,
    ],
    ids=lambda url: repr(url)[:40],
)
def test_hostile_repositories(api: Api, url: str) -> None:
    assert list(refused(api, changed("task.repo_url", url))["fields"]) == ["task.repo_url"]


def test_files_are_refused_by_default(api: Api) -> None:
    assert "allowed here: https, ssh" in refused(api, changed("task.repo_url", "file:///srv/r"))["message"]


def test_a_private_host_that_the_operators_allow(api: Api, settings: Any) -> None:
    settings.REPO_PRIVATE_HOSTS = ["10.0.0.1"]
    assert api.post("/jobs", changed("task.repo_url", "https://10.0.0.1/r")).status_code == 201
    assert api.post("/jobs", changed("task.repo_url", "https://10.0.0.2/r")).status_code == 400


@pytest.mark.parametrize("field", ["branch", "base_branch"])
@pytest.mark.parametrize(
    "name",
    [
        "a..b",
        "-x",
        "--force",
        "a b",
        "a\nb",
        "a\x00b",
        "HEAD",
        "refs/heads/x",
        "@{-1}",
        "x.lock",
        "\ud800",
        "x" * (MAX_BRANCH_LENGTH + 1),
        "ü" * (MAX_BRANCH_LENGTH // 2 + 1),
    ],
)
def test_hostile_branches(api: Api, field: str, name: str) -> None:
    assert list(refused(api, changed(f"task.{field}", name))["fields"]) == [f"task.{field}"]


@pytest.mark.parametrize("branch", ["main", "main/x", "main/x/y"])
def test_work_goes_to_a_branch_that_does_not_conflict_with_its_base(api: Api, branch: str) -> None:
    assert list(refused(api, changed("task.branch", branch))["fields"]) == ["task.branch"]


def test_a_branch_whose_name_begins_with_its_base_and_no_slash(api: Api) -> None:
    assert api.post("/jobs", changed("task.branch", "main-x")).status_code == 201


@pytest.mark.parametrize("value", [" ", "\n\t ", "\u00a0"], ids=repr)
def test_a_prompt_of_white_space_alone(api: Api, value: str) -> None:
    assert list(refused(api, changed("task.prompt", value))["fields"]) == ["task.prompt"]


@pytest.mark.parametrize(
    "value", ["A\nB", "A B", " A", "A\n", "-A", "#1", "Ä-1", "A:1", "A\u2028B", "A" * 101], ids=repr
)
def test_issue_keys_that_could_not_stand_in_a_commit(api: Api, value: str) -> None:
    assert list(refused(api, changed("task.issue_key", value))["fields"]) == ["task.issue_key"]


@pytest.mark.parametrize("value", ["PROJ-123", "42", "user/repo#7", "A" * 100])
def test_issue_keys(api: Api, value: str) -> None:
    assert api.post("/jobs", changed("task.issue_key", value)).status_code == 201


@pytest.mark.parametrize("field", ["repo_token", "branch", "base_branch"])
def test_what_belongs_to_a_repository_needs_one(api: Api, field: str) -> None:
    task = {"type": "prompt", "prompt": "x", field: VALID["task"][field]}
    assert list(refused(api, {"task": task, "capabilities": ["git"]})["fields"]) == [f"task.{field}"]


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/x",
        "ftp://example.com",
        "https://",
        "https:///x",
        "javascript:alert(1)",
        "https://user:pass@example.com/",
        "https://127.0.0.1/",
        "https://127.0.0.1./",
        "https://localhost./",
        "https://127.1/",
        "https://[::1]/",
        "https://10.1.1.1/",
        "https://example.com:port/",
        "https://[::1/",
        "https://example.com/\x00",
        "https://example.com/a\r\nb",
        "https://exam\nple.com/",
        "https://example.com/\n",
        " https://example.com/",
        "https://example.com/a b",
        "https://example.com/a\u00a0b",
        "https://example.com/\x1b",
        "https://example.com/" + "x" * 2000,
        "//example.com/",
    ],
    ids=lambda url: repr(url)[:40],
)
def test_callbacks(api: Api, url: str) -> None:
    assert list(refused(api, changed("callback_url", url))["fields"]) == ["callback_url"]


@pytest.mark.parametrize("path", SECRET_FIELDS)
@pytest.mark.parametrize(
    "value",
    [
        "short",
        "x" * 20_001,
        "not-äscii-text",
        "with\x00nul-in-it",
        " " * 20,
        "1234567  ",
        "1 2 3 4 5",
        "ghp_0123456789\n",
        " ghp_0123456789",
        "ghp_0123456789\r\nX-More: 1",
        "ghp_0123456789\x1b",
        {},
        {"secret": ""},
        {"secret": 5},
        {"secret": None},
        {"secret": "a", "more": "b"},
        {"secret": "with space"},
        {"secret": "a\x00b"},
        {"secret": "\ud800"},
        {"secret": "x" * 61},
        {"name": "github"},
    ],
    ids=lambda value: repr(value)[:24],
)
def test_secrets(api: Api, path: str, value: Any) -> None:
    error = refused(api, changed(path, value))
    assert list(error["fields"]) == [path]
    assert "nul-in-it" not in json.dumps(error)


def test_a_key_in_pem_form_keeps_its_lines(api: Api) -> None:
    key = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk\n-----END OPENSSH PRIVATE KEY-----\n"
    assert api.post("/jobs", changed("task.repo_token", key)).status_code == 201
    job = Job.objects.get()
    assert JobSecrets.of(job).values(job)["repo_token"] == key


# A value that every readable field takes by itself.
MISPLACED = "feature-0123456789"


@pytest.mark.parametrize("secret", SECRET_FIELDS)
@pytest.mark.parametrize("path", TEXTS)
def test_a_secret_in_a_field_that_can_be_read(api: Api, path: str, secret: str) -> None:
    prefix = "https://example.com/" if path in ("task.repo_url", "callback_url") else "x-"
    body = changed(path, prefix + MISPLACED)
    put(body, secret, MISPLACED)
    error = refused(api, body)
    assert list(error["fields"]) == [path]
    assert f"Holds the value of {secret.rpartition('.')[2]};" in error["message"]
    assert MISPLACED not in json.dumps(error)


@pytest.mark.parametrize("spelling", sorted(secret_encodings("feature/0123+456789")))
def test_a_secret_in_another_spelling(api: Api, spelling: str) -> None:
    body = changed("task.repo_token", "feature/0123+456789")
    body["context"]["jira_cloud_id"] = f"x{spelling}y"
    assert list(refused(api, body)["fields"]) == ["context.jira_cloud_id"]


def test_a_secret_in_the_idempotency_key(api: Api) -> None:
    response = api.post("/jobs", VALID, **{"Idempotency-Key": VALID["task"]["repo_token"]})
    assert response.status_code == 400
    assert list(error_of(response)["fields"]) == ["Idempotency-Key"]
    assert not Job.objects.exists()


@pytest.mark.parametrize("path", SECRET_FIELDS)
def test_a_stored_secret_that_is_not_there(api: Api, path: str) -> None:
    error = refused(api, changed(path, {"secret": "nowhere"}))
    assert error["code"] == "unknown_secret"
    assert list(error["fields"]) == [path]
    assert "'nowhere'" in error["message"]


@pytest.mark.parametrize("text", ["x\x00y", "\ud800"], ids=["nul", "surrogate"])
@pytest.mark.parametrize(
    "path", ["task.prompt", "task.issue_key", "context.jira_cloud_id", "context.additional_instructions"]
)
def test_text_that_cannot_be_stored(api: Api, path: str, text: str) -> None:
    assert list(refused(api, changed(path, text))["fields"]) == [path]


@pytest.mark.parametrize("key", ["\ud800", "\x00", "x" * 5000])
def test_a_hostile_field_name_is_refused_and_not_repeated_at_length(api: Api, key: str) -> None:
    assert len(json.dumps(refused(api, {**VALID, key: 1}))) < 3000


def test_unfinished_work_is_pushed_only_from_a_repository(api: Api) -> None:
    body = changed("on_failure", "push_wip")
    plain = {**body, "task": {"type": "prompt", "prompt": "Fix it."}}
    assert list(refused(api, plain)["fields"]) == ["on_failure"]
    assert "on_failure" in refused(api, changed("on_failure", "push_main"))["fields"]
    assert api.post("/jobs", body).json()["on_failure"] == "push_wip"
