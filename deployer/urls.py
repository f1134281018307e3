"""Addresses of the whole site, grouped by what they serve."""

from django.contrib import admin
from django.urls import path

urlpatterns = [
    path("admin/", admin.site.urls),
]
