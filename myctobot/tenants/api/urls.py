from django.urls import path

from myctobot.tenants.api.secret_views import SecretDetail, SecretList

urlpatterns = [
    path("secrets", SecretList.as_view(), name="secrets"),
    path("secrets/<str:name>", SecretDetail.as_view(), name="secret"),
]
