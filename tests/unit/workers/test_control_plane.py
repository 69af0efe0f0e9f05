from __future__ import annotations

import httpx
import pytest

from workers.control_plane import AttemptFenced, CallRefused, ControlError, ControlPlaneUnreachable, check_answer


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (503, b"too many connections", ControlPlaneUnreachable),
        (429, b"too many connections from one address", ControlPlaneUnreachable),
        (408, b'{"error": {"code": "request_timeout", "message": "The body was slow."}}', ControlPlaneUnreachable),
        (413, b'{"error": {"code": "request_too_large", "message": "Too large."}}', CallRefused),
        (409, b'{"error": {"code": "fenced", "message": "Another attempt runs."}}', AttemptFenced),
        (404, b"a page", ControlPlaneUnreachable),
    ],
)
def test_an_answer_says_whether_another_try_may_succeed(status: int, body: bytes, expected: type[ControlError]) -> None:
    with pytest.raises(ControlError) as caught:
        check_answer(httpx.Response(status, content=body))
    assert type(caught.value) is expected
