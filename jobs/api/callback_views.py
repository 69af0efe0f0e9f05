"""Views of ``/api/v1/jobs/{id}/callbacks`` and of the secret that signs callbacks."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from jobs import broker
from jobs.callbacks import signing
from jobs.callbacks.delivery import redeliver
from jobs.callbacks.models import Callback, Delivery
from jobs.errors import SigningSecretUnreadable, UnknownCallback, UnknownJob
from jobs.lifecycle import lookup
from myctobot.api.pagination import PAGED, PAGES, Pages
from myctobot.api.parameters import ApiView
from myctobot.errors import NotAllowed
from myctobot.lib.crypto import CannotUnseal
from myctobot.tenants.authentication import Caller, caller_name, caller_of, require_admin

# A callback has about twenty tries in a day, so these are the tries of the last days.
_MAX_DELIVERIES = 50


class DeliverySerializer(serializers.ModelSerializer[Delivery]):
    """One try to deliver a callback: an HTTP status, or an error."""

    class Meta:
        model = Delivery
        fields = ["at", "status", "error", "took_ms", "asked_by"]


class CallbackSerializer(serializers.ModelSerializer[Callback]):
    """One message to the job's endpoint."""

    id = serializers.CharField(source="public_id")
    deliveries = serializers.SerializerMethodField()

    class Meta:
        model = Callback
        fields = ["id", "kind", "state", "tries", "next_try_at", "created_at", "body", "deliveries"]

    @extend_schema_field(DeliverySerializer(many=True))
    def get_deliveries(self, callback: Callback) -> list[dict[str, Any]]:
        latest = callback.deliveries.order_by("-pk")[:_MAX_DELIVERIES]
        return [dict(row) for row in DeliverySerializer(latest, many=True).data]


class CallbackPageSerializer(serializers.Serializer[Any]):
    """A page of callbacks, newest first."""

    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    results = CallbackSerializer(many=True)


class CallbackSecretSerializer(serializers.Serializer[Any]):
    """The secret in the format of Standard Webhooks, which libraries of receivers read."""

    secret = serializers.CharField()


def find_callback(caller: Caller, job_id: str, callback_id: str) -> Callback:
    """Return the callback of a job of the caller's tenant.

    Raises:
        UnknownJob, UnknownCallback: the tenant has no such job, or the job no such callback.
    """
    job = lookup.find_job(caller.tenant, job_id)
    found = Callback.objects.filter(job=job, public_id=callback_id.replace("\x00", "")).first()
    if found is None:
        raise UnknownCallback
    return found


class JobCallbacks(ApiView):
    """Callbacks of a job, with the answers of its endpoint."""

    errors = {"GET": (UnknownJob,)}
    query = {"GET": PAGED}

    @extend_schema(
        operation_id="jobs_callbacks",
        description=f"Callbacks of the job with every try, newest first. {PAGES}",
        responses=CallbackPageSerializer,
    )
    def get(self, request: Request, job_id: str) -> HttpResponse:
        job = lookup.find_job(caller_of(request).tenant, job_id)
        return Pages().respond(Callback.objects.filter(job=job), request, CallbackSerializer)


class CallbackResend(ApiView):
    """Send a callback again."""

    errors = {"POST": (UnknownJob, UnknownCallback)}

    @extend_schema(operation_id="jobs_callback_resend", request=None, responses={202: CallbackSerializer})
    def post(self, request: Request, job_id: str, callback_id: str) -> Response:
        caller = caller_of(request)
        callback = find_callback(caller, job_id, callback_id)
        redeliver(callback, by=caller_name(caller))
        broker.request_delivery()
        callback.refresh_from_db()
        return Response(CallbackSerializer(callback).data, status=status.HTTP_202_ACCEPTED)


class SigningSecret(ApiView):
    """The secret that signs the tenant's callbacks."""

    errors = {"GET": (NotAllowed, SigningSecretUnreadable), "POST": (NotAllowed,)}

    @extend_schema(operation_id="callback_secret_read", responses=CallbackSecretSerializer)
    def get(self, request: Request) -> Response:
        tenant = _admin(request).tenant
        try:
            return self._answer(signing.secret_of(tenant))
        except CannotUnseal as error:
            raise SigningSecretUnreadable from error

    @extend_schema(
        operation_id="callback_secret_rotate",
        description="Make a new secret. The previous one also signs for a day, so that receivers have time to change.",
        request=None,
        responses=CallbackSecretSerializer,
    )
    def post(self, request: Request) -> Response:
        return self._answer(signing.rotate(_admin(request).tenant))

    @staticmethod
    def _answer(secret: str) -> Response:
        return Response({"secret": secret}, headers={"Cache-Control": "no-store"})


def _admin(request: Request) -> Caller:
    caller = caller_of(request)
    require_admin(caller, "Only admins of the tenant may see or change this secret.")
    return caller
