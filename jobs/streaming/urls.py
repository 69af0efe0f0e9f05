from typing import Any

from django.urls import path

from jobs.streaming import websocket

# Django's types expect views here, but Channels expects ASGI applications.
websocket_urlpatterns: list[Any] = [
    path("ws/jobs/<str:job_id>/", websocket.watch),  # type: ignore[arg-type]  # see above
    path("<path:rest>", websocket.refuse),  # type: ignore[arg-type]  # see above
]
