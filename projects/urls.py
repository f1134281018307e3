"""Addresses of the projects' pages."""

from django.urls import path

from projects import views

urlpatterns = [
    path("", views.project_list, name="projects"),
    path("<int:pk>/", views.project, name="project"),
]
