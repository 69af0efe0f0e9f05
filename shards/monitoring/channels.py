"""Channels for alerts: the log, and if configured a webhook and e-mail."""

from __future__ import annotations

import json
import smtplib
import ssl
from datetime import UTC, datetime
from typing import Final, Protocol

import httpx
import structlog
from django.conf import settings
from django.core.mail import EmailMessage
from standardwebhooks import Webhook

from shards.monitoring.models import Alert

log = structlog.get_logger(__name__)

_TIMEOUT_S: Final = 10.0


class DeliveryFailed(Exception):
    """A channel could not deliver an alert; the message gives the reason."""


class AlertChannel(Protocol):
    """Channel that delivers alerts; ``Alert.delivered`` refers to it by ``name``."""

    name: str

    def send(self, alert: Alert, text: str) -> None:
        """Send an alert once.

        Raises:
            DeliveryFailed: it may be tried again.
        """
        ...


class LogChannel:
    """Channel that writes a warning to the control plane's log."""

    name = "log"

    def send(self, alert: Alert, text: str) -> None:
        log.warning("alert", kind=alert.kind, subject=alert.subject, text=text)


class WebhookChannel:
    """Channel that posts JSON to the operators' URL, signed by the Standard Webhooks rules if there is a secret.

    Chat systems show the top-level ``text``. Redirects are not followed.
    """

    name = "webhook"

    def send(self, alert: Alert, text: str) -> None:
        now = datetime.now(UTC)
        body = json.dumps(
            {
                "type": alert.kind,
                "timestamp": now.isoformat(),
                "text": f"{alert.subject}: {text}",
                "data": {"id": alert.pk, "subject": alert.subject, "text": text, "count": alert.count},
            },
            separators=(",", ":"),
        )
        try:
            status = _post(settings.ALERT_WEBHOOK_URL, body, _headers(f"alert_{alert.pk}", now, body))
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise DeliveryFailed(f"The URL could not be reached: {str(error) or type(error).__name__}") from error
        if not 200 <= status < 300:
            raise DeliveryFailed(f"The URL answered {status}.")


def _post(url: str, body: str, headers: dict[str, str]) -> int:
    # Only the head of the response is read.
    with (
        httpx.Client(verify=_tls(), timeout=_TIMEOUT_S, trust_env=False, follow_redirects=False) as client,
        client.stream("POST", url, content=body, headers=headers) as response,
    ):
        return response.status_code


def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    if settings.CALLBACK_CA_FILE:
        context.load_verify_locations(settings.CALLBACK_CA_FILE)
    return context


def _headers(message_id: str, now: datetime, body: str) -> dict[str, str]:
    # The id is the same in all tries, so that the receiver can detect duplicates.
    headers = {"content-type": "application/json", "user-agent": "MyCTOBot", "webhook-id": message_id}
    if settings.ALERT_WEBHOOK_SECRET:
        headers["webhook-timestamp"] = str(int(now.timestamp()))
        headers["webhook-signature"] = Webhook(settings.ALERT_WEBHOOK_SECRET).sign(message_id, now, body)
    return headers


class EmailChannel:
    """Channel that sends one e-mail to all addresses."""

    name = "email"

    def send(self, alert: Alert, text: str) -> None:
        message = EmailMessage(
            f"[MyCTOBot] {alert.subject}",
            f"{text}\n\n{settings.CONTROL_URL}\n",
            to=settings.ALERT_EMAILS,
            headers={"Message-ID": f"<alert-{alert.pk}.{int(alert.created_at.timestamp())}@myctobot>"},
        )
        try:
            message.send()
        except (smtplib.SMTPException, OSError) as error:
            raise DeliveryFailed(f"The mail server refused the message: {error}") from error


def channels() -> list[AlertChannel]:
    """Return the configured channels; the log comes first and never fails."""
    found: list[AlertChannel] = [LogChannel()]
    if settings.ALERT_WEBHOOK_URL:
        found.append(WebhookChannel())
    if settings.ALERT_EMAILS:
        found.append(EmailChannel())
    return found
