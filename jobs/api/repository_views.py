"""Views of ``/api/v1/repository-policies``: what pushes of the tenant's jobs may do, by repository."""

from __future__ import annotations

from typing import Any, cast

from django.http import HttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from myctobot.api.fields import StrictBooleanField, StrictCharField, StrictSerializer
from myctobot.api.pagination import PAGES, Pages
from myctobot.contract.runner import PushPolicy
from myctobot.errors import NotAllowed
from myctobot.tenants.authentication import caller_name, caller_of
from myctobot.tenants.models import RepositoryPolicy, Role
from myctobot.tenants.repository_policies import set_policy


class RepositoryPolicySerializer(serializers.ModelSerializer[RepositoryPolicy]):
    """Policy of one repository."""

    class Meta:
        model = RepositoryPolicy
        fields = ["repository", "allow_ci_files", "allow_default_branch", "updated_at"]


class RepositoryPolicyPageSerializer(serializers.Serializer[Any]):
    """A page of policies, newest first."""

    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    results = RepositoryPolicySerializer(many=True)


class RepositoryPolicyRequestSerializer(StrictSerializer):
    """Policy that replaces the repository's present one. Both rights must be named."""

    repository = StrictCharField(max_length=2000, help_text="Host and path, such as github.com/user/repo, or the URL.")
    allow_ci_files = StrictBooleanField(help_text="Pushes may change files that make a CI server run programs.")
    allow_default_branch = StrictBooleanField(help_text="Pushes may go to the default branch.")


class RepositoryPolicies(APIView):
    """Policies of the tenant's repositories. Without one, a push has none of the rights."""

    @extend_schema(
        operation_id="repository_policies_list",
        description=f"Policies of the tenant's repositories, newest first. {PAGES}",
        parameters=[OpenApiParameter("cursor", str), OpenApiParameter("limit", int)],
        responses=RepositoryPolicyPageSerializer,
    )
    def get(self, request: Request) -> HttpResponse:
        rows = RepositoryPolicy.objects.filter(tenant=caller_of(request).tenant)
        return Pages().respond(rows, request, RepositoryPolicySerializer)

    @extend_schema(
        operation_id="repository_policies_set",
        description="Set the policy of a repository. Only admins of the tenant may do this.",
        request=RepositoryPolicyRequestSerializer,
        responses=RepositoryPolicySerializer,
    )
    def put(self, request: Request) -> Response:
        caller = caller_of(request)
        if caller.role != Role.ADMIN:
            raise NotAllowed("Only admins of the tenant may change what pushes may do; ask one of them.")
        body = RepositoryPolicyRequestSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        wanted = dict(body.validated_data)
        repository = wanted.pop("repository")
        row = set_policy(caller.tenant, repository, cast(PushPolicy, wanted), actor=caller_name(caller))
        return Response(RepositoryPolicySerializer(row).data)
