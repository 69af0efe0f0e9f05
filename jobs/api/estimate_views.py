"""``/api/v1/jobs/estimate``: when a job would start that is not submitted yet."""

from __future__ import annotations

from dataclasses import asdict

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from jobs.api.response_serializers import WaitingSerializer
from jobs.api.views import caller_of
from jobs.models.job import Priority
from jobs.queue.waiting import Waits
from myctobot.api.fields import CapabilitiesField, StrictSerializer


class EstimateRequestSerializer(StrictSerializer):
    """What of a job decides how long it waits."""

    capabilities = CapabilitiesField(help_text="What a shard must have, such as git and filesystem.")
    priority = serializers.ChoiceField(choices=[p.label for p in Priority], default=Priority.NORMAL.label)

    @property
    def priority_value(self) -> Priority:
        return next(p for p in Priority if p.label == self.validated_data["priority"])


class JobEstimate(APIView):
    """How long a job would wait."""

    only_reads = True

    @extend_schema(
        operation_id="jobs_estimate",
        description=(
            "What would hold up a job that is submitted now, and for how long. One that nobody could ever run is "
            "answered too: with the code and the reason for which a submit would be refused."
        ),
        request=EstimateRequestSerializer,
        responses=WaitingSerializer,
    )
    def post(self, request: Request) -> Response:
        body = EstimateRequestSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        tenant, capabilities = caller_of(request).tenant, body.validated_data["capabilities"]
        return Response(asdict(Waits().newcomer(tenant, capabilities, body.priority_value)))
