"""The pages of config files: saved, shown without secrets, restored, and the restart that follows from them."""

import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from deployer.engine.routines import carry_out
from projects.models import ConfigFile, Variable
from tests.deployer.test_config_files import Site
from tests.factories import make_group, make_member, make_project, make_server

pytestmark = pytest.mark.django_db(transaction=True)

FORM = {"path": "~/etc/app.conf", "content": "port=80\r\n", "mode": "0640", "position": "0"}


def page(client: Client, name: str, pk: int, **data: Any) -> str:
    address = reverse(name, args=[pk])
    return client.get(address, data).content.decode()


def test_saving_a_file_shows_which_servers_differ_and_leads_to_a_restart_of_these(make_sshd: Any, admin_client: Client):
    site = Site(make_sshd(), make_sshd())
    it = site.project
    admin_client.post(reverse("project_file_add", args=[it.pk]), FORM)
    file = it.config_files.get()
    assert file.content == "port=80\n"
    assert "do not have these files yet" not in page(admin_client, "project_files", it.pk)  # nothing runs there yet
    assert site.deployed().status == "success"
    assert "yet:" not in page(admin_client, "project_files", it.pk)
    answer = admin_client.post(reverse("config_file", args=[file.pk]), FORM | {"content": "port=81\n"}, follow=True)
    shown = answer.content.decode()
    assert "2 servers do not have these files yet:" in shown
    restart = re.search(r'href="([^"]*/launch/\?[^"]*)"', shown)
    assert restart is not None
    address = restart[1].replace("&amp;", "&")
    ids = "".join(f"&server={server.pk}" for server in site.servers)
    assert address.endswith(f"type=restart_only&group={site.group.pk}{ids}")
    form = admin_client.get(address).content.decode()
    assert re.search(r'value="restart_only"\s*checked', form)
    assert "1 config file is put on the servers" in form
    chosen = {"deployment_type": "restart_only", "server_groups": [site.group.pk], "confirm": it.name}
    admin_client.post(reverse("launch", args=[it.pk]), chosen | {"servers": [site.servers[0].pk]})
    deployment = it.deployments.first()
    assert deployment is not None
    assert carry_out(deployment.pk)
    assert (site.at(1).read_text(), site.at(2).read_text()) == ("port=81\n", "port=80\n")
    assert "1 server does not have these files yet:" in page(admin_client, "project_files", it.pk)


def test_the_difference_to_each_server_is_shown_and_no_secret_in_it(make_sshd: Any, admin_client: Client):
    site = Site(make_sshd(), make_sshd())
    Variable.objects.create(project=site.project, name="WORD", value="new-s3cret", is_secret=True)
    site.file(content="port=80\nword={{ WORD }}\nid={{ DEPLOY_ID }}\n", is_template=True)
    site.file("~/etc/whole.conf", content="hunter22\n", is_secret=True)
    site.at(1).write_text("port=79\nword=old-s3cret\nid=7\n")
    site.at(1).with_name("whole.conf").write_text("hunter11\n")
    address = reverse("project_files_differences", args=[site.project.pk])
    shown = admin_client.post(address, {"deployment_type": "restart_only"}).content.decode()
    assert "<del>-port=••••••</del>" in shown
    assert "<ins>+port=80</ins>" in shown
    assert "<del>-word=••••••</del>" in shown
    assert "+id=[DEPLOY_ID]" in shown
    assert "Secret: 1 lines come, 1 go." in shown
    assert "it is not there yet" in shown
    assert "there is one already that deployer did not put there" in shown
    for secret in ("s3cret", "hunter"):
        assert secret not in shown


def test_the_content_of_a_secret_file_goes_in_and_never_comes_out(admin_client: Client):
    project = make_project()
    file = ConfigFile.objects.create(project=project, path="/etc/a", content="hunter22", is_secret=True)
    file.content = "hunter33"
    file.save()
    sent = {"path": "/etc/a", "content": "", "mode": "0600", "is_secret": "on"}
    admin_client.post(reverse("config_file", args=[file.pk]), sent)
    file.refresh_from_db()
    assert (file.content, file.mode) == ("hunter33", "0600")
    shown = admin_client.post(reverse("config_file", args=[file.pk]), sent | {"is_secret": ""}).content.decode()
    assert "unticking the box does not reveal a stored secret" in shown
    pages = [
        page(admin_client, name, file.pk) for name in ("config_file", "config_file_versions", "config_file_delete")
    ]
    pages += [page(admin_client, name, project.pk) for name in ("project_files", "project", "launch", "project_yaml")]
    assert all("hunter" not in it for it in [*pages, shown])
    assert "Secret: 1 lines come, 1 go." in pages[1]


def test_an_earlier_version_is_restored_and_the_list_says_who_has_changed_it(admin_client: Client, admin_user: Any):
    file = ConfigFile.objects.create(project=make_project(), path="/etc/a", content="one\n")
    admin_client.post(reverse("config_file", args=[file.pk]), FORM | {"path": "/etc/a", "content": "two\n"})
    shown = page(admin_client, "config_file_versions", file.pk)
    assert "<del>-one</del>" in shown
    assert "<ins>+two</ins>" in shown
    assert admin_user.username in page(admin_client, "project_files", file.project_id)
    admin_client.post(reverse("config_file_versions", args=[file.pk]), {"number": "1"})
    file.refresh_from_db()
    assert file.content == "one\n"
    assert [(it.number, it.content) for it in file.versions.all()] == [(3, "one\n"), (2, "two\n"), (1, "one\n")]
    file.is_template, file.content = True, "{{ GONE }}"
    ConfigFile.objects.filter(pk=file.pk).update(is_template=True)
    file.versions.filter(number=2).update(content=file.content)
    answer = admin_client.post(reverse("config_file_versions", args=[file.pk]), {"number": "2"}, follow=True)
    assert "cannot be restored" in answer.content.decode()


def test_what_was_typed_wrong_is_said_at_its_box(admin_client: Client):
    project = make_project()
    wrong = {"path": "/etc/a", "content": "{{ NO }}", "is_template": "on", "check_command": "x", "mode": "9"}
    shown = admin_client.post(reverse("project_file_add", args=[project.pk]), wrong).content.decode()
    for told in ("“NO” is not defined", "must name {file}", "“9” is not a mode"):
        assert told in shown
    assert not project.config_files.exists()


def test_somebody_who_maintains_the_project_chooses_only_servers_that_they_see(client: Client):
    project = make_project()
    mine, other = make_server(), make_server()
    project.server_groups.add(make_group(mine, name="mine"))
    make_group(other, name="other")
    client.force_login(make_member("maintainer", "", project.pk))
    address = reverse("project_file_add", args=[project.pk])
    sent = {"path": "/etc/a", "content": "x", "mode": "0640"}
    assert "Select a valid choice" in client.post(address, sent | {"server": other.pk}).content.decode()
    client.post(address, sent | {"server": mine.pk})
    assert project.config_files.get().server == mine


def test_deleting_a_file_leaves_the_ones_on_servers(make_sshd: Any, admin_client: Client):
    site = Site(make_sshd())
    file = site.file()
    assert site.deployed().status == "success"
    admin_client.post(reverse("config_file_delete", args=[file.pk]))
    assert not site.project.config_files.exists()
    assert site.deployed().status == "success"
    assert site.at().read_text() == "port=80\n"


def test_whoever_deletes_a_server_or_a_group_is_told_of_the_files_that_go_with_it(admin_client: Client):
    project, server = make_project(), make_server()
    group = make_group(server)
    ConfigFile.objects.create(project=project, path="/etc/a", server=server)
    ConfigFile.objects.create(project=project, path="/etc/a", server_group=group)
    for name, row in (("server_delete", server), ("group_delete", group)):
        assert "1 config file that is for it alone is deleted here" in page(admin_client, name, row.pk)
