"""Addresses of the projects' forms; deployer.urls has the pages that show deployments."""

from django.urls import path

from projects import views

urlpatterns = [
    path("names/", views.project_names, name="project_names"),
    path("<int:pk>/edit/", views.project_edit, name="project_edit"),
    path("<int:pk>/copy/", views.project_copy, name="project_copy"),
    path("<int:pk>/variables/", views.project_variables, name="project_variables"),
    path("<int:pk>/services/", views.project_services, name="project_services"),
    path("<int:pk>/health/", views.project_health, name="project_health"),
    path("<int:pk>/steps/", views.project_steps, name="project_steps"),
]
