"""What the pages that make, change and delete servers, groups and credentials promise."""

import re
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.urls import reverse

from deployer.models import DeploymentQuerySet, Lease, Target
from servers.models import Credential, Server, ServerGroup
from tests.factories import make_credential, make_deployment, make_group, make_project, make_server, make_user
from tests.parts.sshd import OpenSSHServer

pytestmark = pytest.mark.django_db


def client_of(*permissions: str, is_superuser: bool = False) -> Client:
    """The browser of somebody who has these permissions of the servers, and no others."""
    user = make_user(is_superuser=is_superuser)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions, content_type__app_label="servers"))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def client() -> Client:
    return client_of(is_superuser=True)


def server_values(**values: Any) -> dict[str, Any]:
    """A server as the form sends it."""
    if "credential" not in values:
        values["credential"] = make_credential().pk
    return {"name": "web-1", "host": "web-1.example.com", "port": "22", "is_active": "on"} | values


def test_a_server_is_made_in_its_groups(client: Client) -> None:
    group = make_group()
    client.post(reverse("server_add"), server_values(groups=[group.pk]))
    server = Server.objects.get()
    assert (server.name, server.address, server.is_active) == ("web-1", "web-1.example.com:22", True)
    assert [*server.groups.all()] == [group]


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("host", "a b; rm -rf /", "is not a host name"),
        ("name", "web\n1", "control characters"),
        ("port", "70000", "65535"),
        ("host_key", "nonsense", "A host key looks like"),
        ("credential", "", "This field is required"),
    ],
)
def test_a_server_that_could_not_be_reached_is_refused_beside_its_field(
    client: Client, field: str, value: str, said: str
) -> None:
    page = client.post(reverse("server_add"), server_values(**{field: value})).content.decode()
    assert said in page
    assert not Server.objects.exists()


def test_an_edit_writes_what_was_changed_and_keeps_what_a_connection_found_meanwhile(client: Client) -> None:
    server = make_server(name="web-1", host="web-1.example.com", host_key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA==")
    server.record_connection()
    client.post(reverse("server_edit", args=[server.pk]), server_values(port="2222", credential=server.credential.pk))
    server.refresh_from_db()
    assert (server.port, server.connection_status) == (2222, "online")
    assert server.host_key.startswith("ssh-ed25519 AAAA")


def test_jump_hosts_cannot_lead_back(client: Client) -> None:
    first = make_server(name="first")
    second = make_server(name="second", jump_host=first)
    values = server_values(name="first", credential=first.credential.pk, jump_host=second.pk)
    page = client.post(reverse("server_edit", args=[first.pk]), values).content.decode()
    assert "lead back to this server" in page


def test_a_deletion_says_what_it_means_and_what_is_in_its_way(client: Client) -> None:
    jump = make_server(name="bastion")
    make_server(name="web-1", jump_host=jump)
    make_group(jump, name="doors")
    address = reverse("server_delete", args=[jump.pk])
    page = client.get(address).content.decode()
    assert "web-1" in page
    assert "doors" in page
    client.post(address)
    assert Server.objects.filter(pk=jump.pk).exists()


def test_a_deleted_server_leaves_the_record_of_its_deployments(client: Client) -> None:
    server = make_server(name="web-1")
    deployment = make_deployment(make_project(), make_group(server), deployment_type="restart_only")
    deployment.request_cancel()
    client.post(reverse("server_delete", args=[server.pk]))
    assert not Server.objects.exists()
    target = Target.objects.get(deployment=deployment)
    assert (target.server, target.server_name) == (None, "web-1")


@pytest.mark.parametrize("address", ["server_delete", "admin:servers_server_delete"])
def test_a_server_that_an_unfinished_deployment_counts_on_is_not_deleted(client: Client, address: str) -> None:
    server = make_server()
    deployment = make_deployment(make_project(), make_group(server))
    Lease.take(server, "/srv/shop", deployment)
    address = reverse(address, args=[server.pk])
    assert f"#{deployment.pk} {deployment.project}" in client.get(address).content.decode()
    page = client.post(address, {"post": "yes"}).content.decode()
    assert f"#{deployment.pk} {deployment.project}" in page
    assert deployment.targets.get().server == server
    assert deployment.leases.get().server == server

    deployment.request_cancel()
    client.post(address, {"post": "yes"})
    assert not Server.objects.exists()
    assert Target.objects.get().server is None


def test_a_deployment_that_is_launched_during_the_deletion_of_its_server_keeps_it(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = make_server()
    project, group = make_project(), make_group(server)
    monkeypatch.setattr(DeploymentQuerySet, "active", lambda rows: rows.none())  # it looked a moment before
    deployment = make_deployment(project, group)

    def delete() -> None:
        server.delete()
        connection.check_constraints()  # as the end of the transaction does

    with pytest.raises(IntegrityError), transaction.atomic():
        delete()
    assert deployment.targets.get().server == group.servers.get()


def test_a_group_is_made_changed_and_deleted_without_its_servers(client: Client) -> None:
    one, two = make_server(), make_server()
    values = {"name": "web", "environment": "staging", "servers": [one.pk]}
    client.post(reverse("group_add"), values)
    group = ServerGroup.objects.get()
    assert (group.environment, [*group.servers.all()]) == ("staging", [one])
    client.post(reverse("group_edit", args=[group.pk]), values | {"servers": [two.pk]})
    assert [*group.servers.all()] == [two]
    client.post(reverse("group_delete", args=[group.pk]))
    assert not ServerGroup.objects.exists()
    assert Server.objects.count() == 2


def test_the_secrets_of_a_credential_go_in_and_never_come_out(client: Client, sshd: OpenSSHServer) -> None:
    values = {"name": "web-key", "username": "deploy", "kind": "ssh_key", "private_key": sshd.private_key}
    page = client.post(reverse("credential_add"), values | {"username": ""}).content.decode()
    assert "This field is required" in page
    assert "PRIVATE KEY-----\n" not in page.replace("\r", "")
    client.post(reverse("credential_add"), values | {"private_key": sshd.private_key.replace("\n", "\r\n")})
    credential = Credential.objects.get()
    assert credential.private_key.strip() == sshd.private_key.strip()
    address = reverse("credential_edit", args=[credential.pk])
    page = client.get(address).content.decode()
    assert "Set. Leave empty to keep it." in page
    assert sshd.private_key.splitlines()[1] not in page
    client.post(address, values | {"name": "renamed", "private_key": ""})
    credential.refresh_from_db()
    assert (credential.name, credential.private_key.strip()) == ("renamed", sshd.private_key.strip())


def test_a_key_has_a_password_beside_it_only_as_long_as_that_is_ticked(client: Client, sshd: OpenSSHServer) -> None:
    values = {"name": "web-key", "username": "deploy", "kind": "ssh_key", "private_key": sshd.private_key}
    client.post(reverse("credential_add"), values | {"password": "left over from the other kind"})
    credential = Credential.objects.get()
    assert credential.password == ""
    address = reverse("credential_edit", args=[credential.pk])
    client.post(address, values | {"with_password": "on", "password": "second step"})
    credential.refresh_from_db()
    assert credential.password == "second step"
    page = client.get(address).content.decode()
    assert re.search(r'name="with_password"[^>]* checked', page)
    assert "second step" not in page
    client.post(address, values | {"with_password": "on", "password": ""})
    credential.refresh_from_db()
    assert credential.password == "second step"
    client.post(address, values)
    credential.refresh_from_db()
    assert credential.password == ""


def test_a_credential_that_is_in_use_is_not_deleted(client: Client) -> None:
    server = make_server(name="web-1")
    address = reverse("credential_delete", args=[server.credential.pk])
    assert "web-1" in client.get(address).content.decode()
    client.post(address)
    assert Credential.objects.exists()


def test_a_credential_that_a_project_uses_is_not_deleted_and_the_project_is_named(client: Client) -> None:
    credential = make_credential()
    make_project(name="Shop", git_credential=credential)
    page = client.post(reverse("credential_delete", args=[credential.pk])).content.decode()
    assert "Shop" in page
    assert Credential.objects.exists()


PAGES = {
    "server_add": "add_server",
    "server_edit": "change_server",
    "server_delete": "delete_server",
    "group_add": "add_servergroup",
    "group_edit": "change_servergroup",
    "group_delete": "delete_servergroup",
    "credentials": "view_credential",
    "credential_add": "add_credential",
    "credential_edit": "change_credential",
    "credential_delete": "delete_credential",
}


@pytest.mark.parametrize("name", PAGES)
def test_each_page_wants_its_own_right_and_a_login(name: str) -> None:
    server = make_server()
    keys = {"server": server.pk, "group": make_group(server).pk, "credential": server.credential.pk}
    floor = name.partition("_")[0]
    address = reverse(name, args=[keys[floor]] if name.endswith(("edit", "delete")) else [])
    others = sorted({*PAGES.values()} - {PAGES[name]})
    assert client_of(PAGES[name]).get(address).status_code == 200
    assert client_of(*others).get(address).status_code == 403
    assert Client().get(address)["Location"].startswith(reverse("login"))


def test_who_may_change_servers_but_no_groups_changes_no_groups() -> None:
    server, group = make_server(name="web-1", credential=make_credential(hosts="*.example.com")), make_group()
    values = server_values(credential=server.credential.pk, groups=[group.pk])
    client_of("change_server").post(reverse("server_edit", args=[server.pk]), values)
    server.refresh_from_db()
    assert server.host == "web-1.example.com"
    assert not group.servers.exists()
