from typing import Any

from django.urls import path

from jobs.streaming import websocket

# ASGI applications stand here where Django has views.
websocket_urlpatterns: list[Any] = [
    path("ws/jobs/<str:job_id>/", websocket.watch),  # type: ignore[arg-type]  # see above
    path("<path:rest>", websocket.refuse),  # type: ignore[arg-type]  # see above
]
