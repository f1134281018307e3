"""Addresses of the projects' forms; deployer.urls has the pages that show deployments."""

from django.urls import path

from projects import variable_views, views

urlpatterns = [
    path("sets/", variable_views.set_list, name="sets"),
    path("sets/add/", variable_views.set_add, name="set_add"),
    path("sets/<int:pk>/", variable_views.variable_set, name="variable_set"),
    path("sets/<int:pk>/edit/", variable_views.set_edit, name="set_edit"),
    path("sets/<int:pk>/variables/", variable_views.set_variables, name="set_variables"),
    path("sets/<int:pk>/delete/", variable_views.set_delete, name="set_delete"),
    path("<int:pk>/variables/paste/", variable_views.project_paste, name="project_paste"),
    path("<int:pk>/sets/", variable_views.project_sets, name="project_sets"),
    path("names/", views.project_names, name="project_names"),
    path("<int:pk>/edit/", views.project_edit, name="project_edit"),
    path("<int:pk>/copy/", views.project_copy, name="project_copy"),
    path("<int:pk>/variables/", variable_views.project_variables, name="project_variables"),
    path("<int:pk>/services/", views.project_services, name="project_services"),
    path("<int:pk>/health/", views.project_health, name="project_health"),
    path("<int:pk>/steps/", views.project_steps, name="project_steps"),
]
