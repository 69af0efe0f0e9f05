"""View of ``/api/v1/jobs/estimate``: the expected wait of a job that is not submitted yet."""

from __future__ import annotations

from dataclasses import asdict

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from jobs.api.response_serializers import WaitingSerializer
from jobs.models import Priority
from jobs.queue.waiting import WaitExplainer
from myctobot.api.fields import CapabilitiesField, StrictSerializer
from myctobot.api.parameters import ApiView
from myctobot.tenants.authentication import caller_of


class EstimateRequestSerializer(StrictSerializer):
    """The properties of a job that determine its wait."""

    capabilities = CapabilitiesField(help_text="What a shard must have, such as git and filesystem.")
    priority = serializers.ChoiceField(choices=[p.label for p in Priority], default=Priority.NORMAL.label)

    @property
    def priority_value(self) -> Priority:
        return next(p for p in Priority if p.label == self.validated_data["priority"])


class JobEstimate(ApiView):
    """Expected wait of a job."""

    only_reads = True

    @extend_schema(
        operation_id="jobs_estimate",
        description=(
            "The reason for which a job would wait if it were submitted now, and the expected time. If no shard could "
            "ever run it, the answer has the code and the reason with which a submit would be refused."
        ),
        request=EstimateRequestSerializer,
        responses=WaitingSerializer,
    )
    def post(self, request: Request) -> Response:
        body = EstimateRequestSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        tenant, capabilities = caller_of(request).tenant, body.validated_data["capabilities"]
        return Response(asdict(WaitExplainer().new_job(tenant, capabilities, body.priority_value)))
