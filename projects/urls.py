"""Addresses of the projects' forms; deployer.urls has the pages that show deployments."""

from django.urls import path

from projects import template_views, variable_views, views

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
    path("<int:pk>/template/", template_views.project_template, name="project_template"),
]

template_urls = [
    path("", template_views.template_list, name="templates"),
    path("add/", template_views.template_add, name="template_add"),
    path("<int:pk>/", template_views.template, name="template"),
    path("<int:pk>/edit/", template_views.template_edit, name="template_edit"),
    path("<int:pk>/steps/", template_views.template_steps, name="template_steps"),
    path("<int:pk>/health/", template_views.template_health, name="template_health"),
    path("<int:pk>/variables/", template_views.template_variables, name="template_variables"),
    path("<int:pk>/files/", template_views.template_files, name="template_files"),
    path("<int:pk>/delete/", template_views.template_delete, name="template_delete"),
]
