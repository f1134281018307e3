"""Addresses of the servers' pages that show nothing of deployments; deployer.urls has the others."""

from django.urls import include, path

from servers.views import changing, connection, editing, host_key, importing, names

server_urls = [
    path("edit/", editing.server_edit, name="server_edit"),
    path("delete/", editing.server_delete, name="server_delete"),
    path("test/<int:number>/", connection.server_test_stage, name="server_test_stage"),
    path("test/briefly/", connection.server_test_briefly, name="server_test_briefly"),
    path("host-key/", host_key.host_key, name="host_key"),
    path("host-key/pin/", host_key.host_key_pin, name="host_key_pin"),
]

group_urls = [
    path("add/", editing.group_add, name="group_add"),
    path("names/", names.group_names, name="group_names"),
    path("<int:pk>/edit/", editing.group_edit, name="group_edit"),
    path("<int:pk>/delete/", editing.group_delete, name="group_delete"),
]

credential_urls = [
    path("add/", editing.credential_add, name="credential_add"),
    path("names/", names.credential_names, name="credential_names"),
    path("<int:pk>/edit/", editing.credential_edit, name="credential_edit"),
    path("<int:pk>/delete/", editing.credential_delete, name="credential_delete"),
]

urlpatterns = [
    path("add/", editing.server_add, name="server_add"),
    path("change/", changing.servers_change, name="servers_change"),
    path("names/", names.server_names, name="server_names"),
    path("import/", importing.server_import, name="server_import"),
    path("import/take/", importing.server_import_take, name="server_import_take"),
    path("groups/", include(group_urls)),
    path("credentials/", include(credential_urls)),
    path("<int:pk>/", include(server_urls)),
]
