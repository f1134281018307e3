"""What the pages that make, change and delete servers, groups and credentials promise."""

import re
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.urls import reverse

from deployer.models import DeploymentQuerySet, Lease, Target
from people.models import Grant
from servers.models import Credential, Server, ServerGroup
from tests.factories import make_credential, make_deployment, make_group, make_project, make_server, make_user
from tests.parts.html import values_of
from tests.parts.sshd import OpenSSHServer

pytestmark = pytest.mark.django_db


def client_of(role: str = "", environment: str = "", *, is_superuser: bool = False) -> Client:
    """The browser of somebody who has this role in this environment; in all of them where none is given."""
    user = make_user(is_superuser=is_superuser)
    if role:
        Grant.objects.create(user=user, role=role, environment=environment)
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


PAGES = [
    *("server_add", "server_edit", "server_delete", "group_add", "group_edit", "group_delete"),
    *("credentials", "credential_add", "credential_edit", "credential_delete"),
]


@pytest.mark.parametrize("name", PAGES)
def test_each_page_wants_somebody_who_maintains_the_place_and_a_login(name: str) -> None:
    server = make_server(credential=make_credential(environment="production"))
    keys = {"server": server.pk, "group": make_group(server).pk, "credential": server.credential.pk}
    make_group(server)
    floor = name.partition("_")[0]
    is_of_a_row = name.endswith(("edit", "delete"))
    address = reverse(name, args=[keys[floor]] if is_of_a_row else [])
    for role, environment in (("maintainer", ""), ("maintainer", "production"), ("admin", "production")):
        assert client_of(role, environment).get(address).status_code == 200
    unseen = 404 if floor == "credential" and is_of_a_row else 403
    for role, environment in (("operator", ""), ("operator", "production"), ("viewer", "production")):
        assert client_of(role, environment).get(address).status_code == unseen
        assert client_of(role, environment).post(address, {}).status_code in (unseen, 405)
    elsewhere, nobody = client_of("maintainer", "staging"), client_of()
    assert elsewhere.get(address).status_code == (404 if is_of_a_row else 200)
    assert nobody.get(address).status_code == (404 if is_of_a_row else 403)
    assert Client().get(address)["Location"].startswith(reverse("login"))


def test_people_of_a_project_make_no_servers_groups_and_credentials() -> None:
    user = make_user(is_superuser=False)
    Grant.objects.create(user=user, role="maintainer", project=make_project().pk)
    client = Client()
    client.force_login(user)
    for name in ("server_add", "group_add", "credential_add", "credentials", "server_import"):
        assert client.get(reverse(name)).status_code == 403
    assert reverse("server_add") not in client.get(reverse("servers")).content.decode()


def test_a_new_server_is_put_into_a_group_of_somebodys_own() -> None:
    own, other = make_group(environment="staging"), make_group(environment="production")
    client = client_of("maintainer", "staging")
    values = server_values(credential=make_credential(environment="staging").pk)
    assert "Choose at least one group" in client.post(reverse("server_add"), values).content.decode()
    page = client.post(reverse("server_add"), values | {"groups": [own.pk, other.pk]}).content.decode()
    assert "Select a valid choice" in page
    assert other.name not in page
    assert not Server.objects.exists()
    assert client.post(reverse("server_add"), values | {"groups": [own.pk]}).status_code == 302
    assert [*Server.objects.get().groups.all()] == [own]


def test_a_server_of_several_environments_is_changed_and_deleted_by_who_maintains_all_of_them() -> None:
    server = make_server(host="web-1.example.com")
    own, other = make_group(server, environment="staging"), make_group(server, environment="production")
    client = client_of("maintainer", "staging")
    page = client.get(reverse("server", args=[server.pk])).content.decode()
    assert own.name in page
    assert other.name not in page
    values = server_values(name="renamed", credential=server.credential.pk, groups=[own.pk])
    for name in ("server_edit", "server_delete", "host_key", "host_key_pin"):
        assert client.post(reverse(name, args=[server.pk]), values).status_code == 403
        assert reverse(name, args=[server.pk]) not in page
    server.refresh_from_db()
    assert server.name != "renamed"
    assert {*server.groups.all()} == {own, other}


def test_a_login_and_a_jump_host_out_of_sight_stay_and_are_called_by_their_names() -> None:
    login = make_credential(name="root-of-all", username="very-secret-user", hosts="*.example.com")
    gate = make_server(name="gate-of-all", host="gate.example.com", credential=login)
    server = make_server(name="web-1", host="web-1.example.com", credential=login, jump_host=gate)
    group = make_group(server, environment="staging")
    client, address = client_of("maintainer", "staging"), reverse("server_edit", args=[server.pk])
    for shown in (address, reverse("server", args=[server.pk])):
        html = client.get(shown).content.decode()
        assert "root-of-all" in html
        assert "gate-of-all" in html
        assert "very-secret-user" not in html
        assert reverse("server", args=[gate.pk]) not in html
    values = server_values(host="web-2.example.com", credential=login.pk, jump_host=gate.pk, groups=[group.pk])
    assert client.post(address, values).status_code == 302
    server.refresh_from_db()
    assert (server.host, server.credential, server.jump_host) == ("web-2.example.com", login, gate)
    assert "is not for" in client.post(address, values | {"host": "thief.example.org"}).content.decode()
    other = make_server(host="web-3.example.com", credential=login)
    make_group(other, environment="staging")
    own = make_server(host="web-4.example.com", credential=make_credential(environment="staging"))
    make_group(own, environment="staging")
    edit = reverse("server_edit", args=[own.pk])
    for wrong in ({"credential": login.pk}, {"jump_host": gate.pk}):
        given = server_values(name=own.name, host=own.host, credential=own.credential.pk, groups=[own.groups.get().pk])
        page = client.post(edit, given | wrong).content.decode()
        assert "Select a valid choice" in page


def test_a_group_moves_only_between_environments_that_somebody_maintains() -> None:
    shared, own = make_server(), make_server()
    group = make_group(own, environment="staging")
    make_group(shared, environment="staging").servers.add(own)
    client = client_of("maintainer", "staging")
    address = reverse("group_edit", args=[group.pk])
    values = {"name": "web", "environment": "production", "servers": [own.pk]}
    assert "Select a valid choice" in client.post(address, values).content.decode()
    assert "Select a valid choice" in client.post(reverse("group_add"), values).content.decode()
    group.refresh_from_db()
    assert group.environment == "staging"
    make_group(own, environment="production")
    user = make_user(is_superuser=False)
    for environment in ("staging", "development"):
        Grant.objects.create(user=user, role="maintainer", environment=environment)
    both = Client()
    both.force_login(user)
    page = both.post(address, values | {"environment": "development"}).content.decode()
    assert "You have no right to move these servers" in page
    assert both.post(address, values | {"environment": "development", "servers": []}).status_code == 302


def test_who_maintains_one_environment_leaves_no_server_without_a_group() -> None:
    lonely, kept = make_server(name="lonely"), make_server(name="kept")
    group = make_group(lonely, kept, environment="staging")
    make_group(kept, environment="staging")
    client = client_of("maintainer", "staging")
    values = {"name": group.name, "environment": "staging", "servers": [kept.pk]}
    assert "lonely" in client.post(reverse("group_edit", args=[group.pk]), values).content.decode()
    assert "lonely" in client.post(reverse("group_delete", args=[group.pk])).content.decode()
    assert {*ServerGroup.objects.get(pk=group.pk).servers.all()} == {lonely, kept}
    group.servers.remove(lonely)
    client.post(reverse("group_delete", args=[group.pk]))
    assert not ServerGroup.objects.filter(pk=group.pk).exists()


def test_a_credential_is_made_and_moved_where_somebody_maintains() -> None:
    client = client_of("maintainer", "staging")
    values = {"name": "key", "username": "deploy", "kind": "password", "password": "secret"}
    for wrong in ("production", ""):
        client.post(reverse("credential_add"), values | {"environment": wrong})
        assert not Credential.objects.exists()
    client.post(reverse("credential_add"), values | {"environment": "staging"})
    credential = Credential.objects.get()
    assert credential.environment == "staging"
    address = reverse("credential_edit", args=[credential.pk])
    client.post(address, values | {"name": "moved", "environment": "production"})
    credential.refresh_from_db()
    assert (credential.name, credential.environment) == ("key", "staging")
    make_credential(name="of-production", environment="production")
    assert "of-production" not in client.get(reverse("credentials")).content.decode()


def test_operators_test_connections_and_viewers_do_not() -> None:
    server = make_server(host="127.0.0.1", port=1)
    group = make_group(server, environment="staging")
    for role, status in (("viewer", 403), ("operator", 200)):
        client = client_of(role, "staging")
        for name, more in (("server_test", []), ("server_test_briefly", []), ("server_test_stage", [0])):
            answer = client.post(reverse(name, args=[server.pk, *more]))
            assert answer.status_code == status
        for page in (reverse("servers"), reverse("server", args=[server.pk]), reverse("group", args=[group.pk])):
            html = client.get(page).content.decode()
            assert (reverse("server_test", args=[server.pk]) in html) is (status == 200)
        assert client.post(reverse("servers_test"), headers={"HX-Request": "true"}).status_code == status


def test_lists_name_nothing_out_of_sight() -> None:
    login = make_credential(hosts="*.example.com")
    own, other = make_server(name="own-server", credential=login), make_server(name="other-server", credential=login)
    group, theirs = make_group(own, name="own-group", environment="staging"), make_group(other, name="other-group")
    make_deployment(make_project(name="other-project"), theirs, deployment_type="restart_only")
    theirs.servers.add(own)
    client = client_of("operator", "staging")
    pages = [reverse("servers"), reverse("groups"), reverse("group", args=[group.pk])]
    pages += [reverse("server", args=[own.pk]), f"{reverse('servers')}?group={theirs.pk}"]
    for page in pages:
        html = client.get(page).content.decode()
        assert "own-" in html
        assert not re.search(r"other-(server|group|project)", html), page
    assert client.get(reverse("server", args=[other.pk])).status_code == 404
    assert client.get(reverse("group", args=[theirs.pk])).status_code == 404


def test_the_admin_asks_as_the_pages_do() -> None:
    user = make_user(is_superuser=False, is_staff=True)
    client = Client()
    client.force_login(user)
    login = make_credential(environment="staging")
    server = make_server(host="web-1.example.com", credential=login)
    group = make_group(server, environment="staging")
    hidden = make_group(make_server(name="other-server"), name="other-group")
    make_credential(name="other-credential")
    assert client.get(reverse("admin:index")).status_code == 302  # a flag alone lets nobody in
    Grant.objects.create(user=user, role="maintainer", environment="staging")
    for model in ("server", "servergroup", "credential"):
        html = client.get(reverse(f"admin:servers_{model}_changelist")).content.decode()
        assert not re.search(r"other-(server|group|credential)", html), model
    address = reverse("admin:servers_servergroup_change", args=[group.pk])
    values = {"name": "web", "environment": "staging", "servers": [server.pk]}
    assert "no right to put it there" in client.post(address, values | {"environment": "production"}).content.decode()
    wrong = values | {"servers": [server.pk, hidden.servers.get().pk]}
    assert "Select a valid choice" in client.post(address, wrong).content.decode()
    assert client.post(address, values).status_code == 302
    assert client.get(reverse("admin:servers_servergroup_change", args=[hidden.pk])).status_code == 404
    new = {"name": "new", "host": "web-2.example.com", "port": "22", "credential": login.pk}
    assert "no right to put it there" in client.post(reverse("admin:servers_server_add"), new).content.decode()
    secret = {"name": "new", "username": "root", "kind": "password", "password": "x", "purpose": "both"}
    page = client.post(reverse("admin:servers_credential_add"), secret | {"environment": "production"})
    assert "no right to put it there" in page.content.decode()
    assert client.post(reverse("admin:servers_credential_add"), secret | {"environment": "staging"}).status_code == 302
    chosen = {"action": "delete_selected", "_selected_action": [server.pk], "post": "yes"}
    client.post(reverse("admin:servers_server_changelist"), chosen)
    assert not Server.objects.filter(pk=server.pk).exists()


@pytest.mark.parametrize("page", ["group_edit", "admin:servers_servergroup_change"])
def test_a_group_leaves_no_project_of_its_environment_behind(client: Client, page: str) -> None:
    group = make_group(environment="production")
    shop, mail = (make_project(name=name, environment="production") for name in ("Shop", "Mail"))
    shop.server_groups.add(group)
    mail.server_groups.add(group)
    address = reverse(page, args=[group.pk])
    values = {"name": group.name, "environment": "staging"}
    html = client.post(address, values).content.decode()
    assert "These projects of Production belong to it: Mail, Shop. Take it from them first." in html
    group.refresh_from_db()
    assert group.environment == "production"
    for project in (shop, mail):
        project.server_groups.clear()
    assert client.post(address, values).status_code == 302
    group.refresh_from_db()
    assert group.environment == "staging"


@pytest.mark.parametrize("page", ["project_edit", "admin:projects_project_change"])
def test_a_project_leaves_no_group_of_its_environment_behind(client: Client, page: str) -> None:
    group, project = make_group(name="web", environment="production"), make_project(environment="production")
    project.server_groups.add(group)
    address = reverse(page, args=[project.pk])
    values = values_of(client.get(address).content.decode(), "as-shown") | {"environment": ["staging"]}
    html = client.post(address, values).content.decode()
    assert "Not of the environment of the project: web." in html
    project.refresh_from_db()
    assert project.environment == "production"
    assert client.post(address, values | {"server_groups": []}).status_code == 302


@pytest.mark.filterwarnings("error::django.core.paginator.UnorderedObjectListWarning")
def test_the_admin_proposes_credentials_by_name(client: Client) -> None:
    for name in ("c", "a", "b"):
        make_credential(name=name)
    asked = {"app_label": "servers", "model_name": "server", "field_name": "credential"}
    answer = client.get(reverse("admin:autocomplete"), asked)
    assert [row["text"] for row in answer.json()["results"]] == ["a", "b", "c"]
