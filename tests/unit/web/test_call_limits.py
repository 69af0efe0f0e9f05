"""Token buckets and the headers about them."""

from __future__ import annotations

from myctobot.web.call_limits import AccountLimits, Quota, TokenBucket, quota_headers


def test_a_bucket_refills_evenly() -> None:
    bucket = TokenBucket(60, now=0)
    for _ in range(60):
        bucket.take()
    assert bucket.remaining(0) == 0
    assert bucket.seconds_until(1, 0) == 1
    assert bucket.reset_s(0) == 60
    assert bucket.remaining(2.5) == 2.5
    assert bucket.remaining(1000) == 60


def test_a_clock_that_goes_back_gives_no_calls() -> None:
    bucket = TokenBucket(60, now=100)
    bucket.take()
    assert bucket.remaining(40) == 59
    assert bucket.remaining(100) == 59


def test_the_headers_are_structured_fields() -> None:
    key = AccountLimits("key", per_minute=100, concurrent=8, waiting=1, streams=1, held_bytes=1)
    tenant = AccountLimits("tenant", per_minute=300, concurrent=9, waiting=1, streams=1, held_bytes=1)
    assert dict(quota_headers([Quota(key, 5, 57), Quota(tenant, 200, 20)])) == {
        b"ratelimit-policy": b'"key";q=100;w=60, "key-concurrent";q=8;qu="concurrent-requests", '
        b'"tenant";q=300;w=60, "tenant-concurrent";q=9;qu="concurrent-requests"',
        b"ratelimit": b'"key";r=5;t=57, "tenant";r=200;t=20',
    }
