"""Addresses of the servers' pages."""

from django.urls import path

from servers import views

urlpatterns = [
    path("", views.server_list, name="servers"),
    path("<int:pk>/", views.server, name="server"),
    path("<int:pk>/test/", views.server_test, name="server_test"),
]
