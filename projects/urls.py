"""Addresses of the projects' pages."""

from django.urls import path

from projects import views

urlpatterns = [
    path("", views.project_list, name="projects"),
    path("<int:pk>/", views.project, name="project"),
    path("<int:pk>/edit/", views.project_edit, name="project_edit"),
    path("<int:pk>/copy/", views.project_copy, name="project_copy"),
    path("<int:pk>/variables/", views.project_variables, name="project_variables"),
    path("<int:pk>/health/", views.project_health, name="project_health"),
]
