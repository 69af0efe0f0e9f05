"""Views of ``/api/v1/repository-policies``: what pushes of the tenant's jobs may do, by repository."""

from __future__ import annotations

from typing import Any, cast

from django.http import HttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from myctobot.api.fields import StrictBooleanField, StrictCharField, StrictSerializer
from myctobot.api.pagination import PAGED, PAGES, Pages
from myctobot.api.parameters import ApiView
from myctobot.contract.runner import PushPolicy
from myctobot.errors import NotAllowed
from myctobot.tenants.authentication import Caller, caller_name, caller_of, require_admin
from myctobot.tenants.models import RepositoryPolicy
from myctobot.tenants.repository_policies import MAX_POLICIES, UnknownPolicy, remove_policy, set_policy

_MAX_REPOSITORY = 2000
_REPOSITORY_FORMAT = "repository"
_REPOSITORY_HELP = "Host and path, such as github.com/user/repo, or the URL."


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

    repository = StrictCharField(max_length=_MAX_REPOSITORY, text_format=_REPOSITORY_FORMAT, help_text=_REPOSITORY_HELP)
    allow_ci_files = StrictBooleanField(help_text="Pushes may change files that make a CI server run programs.")
    allow_default_branch = StrictBooleanField(help_text="Pushes may go to the default branch.")


class RepositoryPolicies(ApiView):
    """Policies of the tenant's repositories. Without one, a push has none of the rights."""

    errors = {"PUT": (NotAllowed,), "DELETE": (NotAllowed, UnknownPolicy)}
    query = {
        "GET": PAGED,
        "DELETE": (
            OpenApiParameter(
                "repository",
                {"type": "string", "format": _REPOSITORY_FORMAT, "minLength": 1, "maxLength": _MAX_REPOSITORY},
                required=True,
                description=_REPOSITORY_HELP,
            ),
        ),
    }

    @extend_schema(
        operation_id="repository_policies_list",
        description=f"Policies of the tenant's repositories, newest first. {PAGES}",
        responses=RepositoryPolicyPageSerializer,
    )
    def get(self, request: Request) -> HttpResponse:
        rows = RepositoryPolicy.objects.filter(tenant=caller_of(request).tenant)
        return Pages().respond(rows, request, RepositoryPolicySerializer)

    @extend_schema(
        operation_id="repository_policies_set",
        description="Set the policy of a repository. Only admins of the tenant may do this. A tenant has at most "
        f"{MAX_POLICIES} policies.",
        request=RepositoryPolicyRequestSerializer,
        responses=RepositoryPolicySerializer,
    )
    def put(self, request: Request) -> Response:
        caller = _admin_of_policies(request)
        body = RepositoryPolicyRequestSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        wanted = dict(body.validated_data)
        repository = wanted.pop("repository")
        row = set_policy(caller.tenant, repository, cast(PushPolicy, wanted), actor=caller_name(caller))
        return Response(RepositoryPolicySerializer(row).data)

    @extend_schema(
        operation_id="repository_policies_remove",
        description="Remove the policy of a repository. Only admins of the tenant may do this.",
        responses={204: None},
    )
    def delete(self, request: Request) -> Response:
        caller = _admin_of_policies(request)
        remove_policy(caller.tenant, request.query_params.get("repository", ""), actor=caller_name(caller))
        return Response(status=status.HTTP_204_NO_CONTENT)


def _admin_of_policies(request: Request) -> Caller:
    caller = caller_of(request)
    require_admin(caller, "Only admins of the tenant may change what pushes may do; ask one of them.")
    return caller
