"""``/shard/v1/jobs/{id}/…``: what runners call. Shapes are in ``jobs/contract.py``; here they are checked."""

from __future__ import annotations

import json
from typing import Any, cast

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from jobs import attempts, ingest
from jobs.api.event_field import EventsField
from jobs.contract import (
    CLAIM_HEADER,
    MAX_BATCH_BYTES,
    MAX_EVENT_BYTES,
    ClaimRequest,
    EventsRequest,
    FinishRequest,
    Outcome,
    Phase,
)
from jobs.errors import Fenced
from shards.api.authentication import ShardView


class ClaimSerializer(serializers.Serializer[Any]):
    attempt = serializers.IntegerField(min_value=1)
    claim_token = serializers.CharField(min_length=32, max_length=200)


class EventsSerializer(serializers.Serializer[Any]):
    attempt = serializers.IntegerField(min_value=1)
    first_seq = serializers.IntegerField(min_value=1)
    events = EventsField()
    phase = serializers.ChoiceField(choices=[phase.value for phase in Phase], required=False)


class FinishErrorSerializer(serializers.Serializer[Any]):
    code = serializers.SlugField(max_length=60)
    message = serializers.CharField(max_length=4000)
    retryable = serializers.BooleanField()


class ProofSerializer(serializers.Serializer[Any]):
    processes_killed = serializers.IntegerField(min_value=0)
    processes_left = serializers.IntegerField(min_value=0)
    checked_at = serializers.CharField(max_length=40)


class FinishSerializer(serializers.Serializer[Any]):
    attempt = serializers.IntegerField(min_value=1)
    outcome = serializers.ChoiceField(choices=[outcome.value for outcome in Outcome])
    final_seq = serializers.IntegerField(min_value=0)
    result = serializers.DictField()
    error = FinishErrorSerializer(required=False, allow_null=True)
    proof = ProofSerializer(required=False, allow_null=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["outcome"] == Outcome.FAILED and not attrs.get("error"):
            raise serializers.ValidationError({"error": ["A failure needs its reason."]})
        if len(json.dumps(attrs["result"])) > MAX_EVENT_BYTES:
            raise serializers.ValidationError({"result": [f"Has more than {MAX_EVENT_BYTES} bytes."]})
        return attrs


class RunnerView(ShardView):
    """A call of a runner."""

    # A batch closes when it passes its bound, so one event may stand over it; JSON's own signs come on top.
    max_body_bytes = MAX_BATCH_BYTES + 2 * MAX_EVENT_BYTES

    def body(self, request: Request, serializer: type[serializers.Serializer[Any]]) -> Any:
        parsed = serializer(data=request.data)
        parsed.is_valid(raise_exception=True)
        return parsed.validated_data

    def claim_token(self, request: Request) -> str:
        token = request.headers.get(CLAIM_HEADER)
        if not token:
            raise Fenced(f"The header {CLAIM_HEADER} is missing.")
        return token


class Claim(RunnerView):
    def post(self, request: Request, job_id: str) -> Response:
        body = cast(ClaimRequest, self.body(request, ClaimSerializer))
        return Response(attempts.claim(self.shard_of(request), job_id, body))


class Events(RunnerView):
    def post(self, request: Request, job_id: str) -> Response:
        body = cast(EventsRequest, self.body(request, EventsSerializer))
        token = self.claim_token(request)
        return Response(ingest.append_events(self.shard_of(request), job_id, token, body))


class Finish(RunnerView):
    def post(self, request: Request, job_id: str) -> Response:
        body = cast(FinishRequest, self.body(request, FinishSerializer))
        token = self.claim_token(request)
        return Response(attempts.finish(self.shard_of(request), job_id, token, body))
