"""Views of ``/api/v1/secrets``: list, store, bind and remove stored secrets. No answer contains a value."""

from __future__ import annotations

import re
from typing import Any

from django.db import transaction
from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from myctobot.api.fields import BoundedListField, StrictCharField, StrictSerializer
from myctobot.api.pagination import PAGED, PAGES, Pages
from myctobot.api.parameters import ApiView
from myctobot.contract.limits import MIN_SECRET_LENGTH
from myctobot.errors import NotAllowed
from myctobot.tenants.authentication import Caller, caller_name, caller_of, require_admin
from myctobot.tenants.models import USER_ROLES, Role, Secret
from myctobot.tenants.secret_bindings import (
    HOST_PATTERN,
    MAX_HOST_LENGTH,
    MAX_HOSTS,
    SecretBinding,
    SecretPurpose,
)
from myctobot.tenants.secrets import (
    MAX_NAME_LENGTH,
    MAX_SECRET_LENGTH,
    SECRET_PATTERN,
    SecretExists,
    SecretMissing,
    add_secret,
    change_secret,
    find_secret,
    remove_secret,
    value_problem,
)

_PURPOSES = [purpose.value for purpose in SecretPurpose if purpose != SecretPurpose.UNBOUND]
_REPOSITORY = {"const": SecretPurpose.REPOSITORY.value}
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_HOSTS_HELP = (
    "For the purpose repository: hosts that the secret may be sent to, such as github.com, git.example.com:8443 or "
    "*.example.com. A host without a port means 443 (https) and 22 (ssh)."
)


class SecretValueField(StrictCharField):
    """Value of a stored secret; responses never contain it."""

    def __init__(self, **kwargs: Any) -> None:
        style = {"input_type": "password"}
        super().__init__(
            write_only=True,
            style=style,
            pattern=SECRET_PATTERN,
            min_length=MIN_SECRET_LENGTH,
            max_length=MAX_SECRET_LENGTH,
            **kwargs,
        )

    def to_internal_value(self, data: Any) -> str:
        value = super().to_internal_value(data)
        if problem := value_problem(value):
            raise serializers.ValidationError(problem)
        return value


class SecretNameField(StrictCharField):
    """Name of a stored secret."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(pattern=_NAME.pattern, max_length=MAX_NAME_LENGTH, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        name = super().to_internal_value(data)
        if not _NAME.fullmatch(name):
            raise serializers.ValidationError("Must have letters, digits, dashes or underscores only.")
        return name


class SecretChangeSerializer(StrictSerializer):
    """New value, new binding, or both. Absent fields keep what is stored."""

    rules = {
        "anyOf": [
            {"properties": {"purpose": _REPOSITORY, "hosts": {"minItems": 1}}},
            {"properties": {"hosts": {"maxItems": 0}}},
        ]
    }

    value = SecretValueField(required=False)
    purpose = serializers.ChoiceField(choices=_PURPOSES, required=False)
    hosts = BoundedListField(
        child=StrictCharField(max_length=MAX_HOST_LENGTH, pattern=HOST_PATTERN),
        max_length=MAX_HOSTS,
        required=False,
        help_text=_HOSTS_HELP,
    )
    min_role = serializers.ChoiceField(
        choices=USER_ROLES,
        required=False,
        help_text="Lowest role that may use the secret in a job.",
    )

    def validate_hosts(self, value: list[str]) -> list[str]:
        # The lower case of some other letters is ASCII.
        if not all(host.isascii() for host in value):
            raise serializers.ValidationError("Must be in ASCII; write an international name as xn--….")
        return value


class NewSecretSerializer(SecretChangeSerializer):
    """Secret to store. It must be bound to a purpose, and for a repository to hosts."""

    rules = {
        "anyOf": [
            {"properties": {"purpose": _REPOSITORY, "hosts": {"minItems": 1}}, "required": ["hosts"]},
            {"properties": {"purpose": {"not": _REPOSITORY}, "hosts": {"maxItems": 0}}},
        ]
    }
    name = SecretNameField()
    value = SecretValueField()
    purpose = serializers.ChoiceField(choices=_PURPOSES)
    min_role = serializers.ChoiceField(
        choices=USER_ROLES,
        default=Role.MEMBER.value,
        help_text="Lowest role that may use the secret in a job.",
    )


class StoredSecretSerializer(serializers.ModelSerializer[Secret]):
    """Stored secret and its binding, without its value. An ``unbound`` one is for admins only, until one binds it."""

    purpose = serializers.CharField(help_text="A purpose, or unbound.")

    class Meta:
        model = Secret
        fields = ["name", "purpose", "hosts", "min_role", "created_at", "updated_at"]


class SecretPageSerializer(serializers.Serializer[Any]):
    """A page of stored secrets, newest first."""

    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    results = StoredSecretSerializer(many=True)


class SecretList(ApiView):
    """The tenant's stored secrets."""

    errors = {"GET": (NotAllowed,), "POST": (NotAllowed, SecretExists)}
    query = {"GET": PAGED}

    @extend_schema(
        operation_id="secrets_list",
        description=f"The tenant's stored secrets and their bindings, newest first. {PAGES} Not for viewers.",
        responses=SecretPageSerializer,
    )
    def get(self, request: Request) -> HttpResponse:
        caller = _user_of_secrets(request)
        return Pages().respond(Secret.objects.filter(tenant=caller.tenant), request, StoredSecretSerializer)

    @extend_schema(
        operation_id="secrets_create",
        description="Store a secret. Only for admins of the tenant.",
        request=NewSecretSerializer,
        responses={201: StoredSecretSerializer},
    )
    def post(self, request: Request) -> Response:
        caller = _admin_of_secrets(request)
        wanted = NewSecretSerializer(data=request.data)
        wanted.is_valid(raise_exception=True)
        data = wanted.validated_data
        binding = _changed(SecretBinding(), data)
        row = add_secret(caller.tenant, data["name"], data["value"], binding, by=caller_name(caller))
        return Response(_represent(row), status=status.HTTP_201_CREATED)


class SecretDetail(ApiView):
    """One stored secret."""

    errors = dict.fromkeys(("GET", "PATCH", "DELETE"), (NotAllowed, SecretMissing))

    @extend_schema(operation_id="secrets_read", responses=StoredSecretSerializer)
    def get(self, request: Request, name: str) -> Response:
        return Response(_represent(find_secret(_user_of_secrets(request).tenant, name)))

    @extend_schema(
        operation_id="secrets_change",
        description="Change the value or the binding. Only for admins of the tenant. Jobs that wait are checked again "
        "when they start.",
        request=SecretChangeSerializer,
        responses=StoredSecretSerializer,
    )
    def patch(self, request: Request, name: str) -> Response:
        caller = _admin_of_secrets(request)
        wanted = SecretChangeSerializer(data=request.data)
        wanted.is_valid(raise_exception=True)
        data = wanted.validated_data
        with transaction.atomic():
            present = find_secret(caller.tenant, name, lock=True).binding
            binding = _changed(present, data) if set(data) - {"value"} else None
            row = change_secret(caller.tenant, name, by=caller_name(caller), value=data.get("value"), binding=binding)
        return Response(_represent(row))

    @extend_schema(
        operation_id="secrets_remove",
        description="Remove a secret. Only for admins of the tenant. Waiting jobs that name it fail.",
        responses={204: None},
    )
    def delete(self, request: Request, name: str) -> Response:
        caller = _admin_of_secrets(request)
        remove_secret(caller.tenant, name, by=caller_name(caller))
        return Response(status=status.HTTP_204_NO_CONTENT)


def _changed(present: SecretBinding, data: dict[str, Any]) -> SecretBinding:
    """Return a binding with the given fields; another purpose than repository drops hosts that are not given."""
    purpose = SecretPurpose(data.get("purpose", present.purpose))
    kept = present.hosts if purpose == SecretPurpose.REPOSITORY else ()
    hosts = tuple(dict.fromkeys(str(host).lower() for host in data.get("hosts", kept)))
    return SecretBinding(purpose, hosts, data.get("min_role", present.min_role))


def _represent(row: Secret) -> dict[str, Any]:
    return dict(StoredSecretSerializer(row).data)


def _user_of_secrets(request: Request) -> Caller:
    caller = caller_of(request)
    if caller.role == Role.VIEWER:
        raise NotAllowed("Only members and admins of the tenant may list stored secrets.")
    return caller


def _admin_of_secrets(request: Request) -> Caller:
    caller = caller_of(request)
    require_admin(caller, "Only admins of the tenant may store, bind or remove secrets.")
    return caller
