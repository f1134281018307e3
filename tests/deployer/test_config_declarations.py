"""Config files in YAML, in copies, in comparisons, in versions and in the record."""

from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.forms.models import model_to_dict

from deployer.board.comparison import differing_settings
from deployer.declaring.export import as_yaml
from deployer.declaring.reading import DeclarationError, DeclarationFile
from deployer.declaring.writing import apply
from deployer.models import Deployment
from people.models import Entry
from people.record import saving
from projects.models import ConfigFile, ConfigVersion, Project
from servers.models import ServerGroup
from tests.factories import make_deployment, make_group, make_project, make_server

pytestmark = pytest.mark.django_db

SHOP = """
projects:
  - name: shop
    environment: production
    deploy_path: /srv/shop
    deploy_script_path: /srv/shop/restart.sh
    variables: [{name: PORT, value: "80"}, {name: ONLY_BUILD, value: x, scope: build}]
    config_files:
      - path: /etc/shop.conf
        content_file: shop.conf
        is_template: true
        check: shop --check {file}
        mode: "0644"
        owner: root:shop
      - {path: config/secret.json, content_env: SHOP_SECRET, is_secret: true}
      - {path: /etc/shop.conf, content: "for the group\\n", server_group: web}
"""


def applied(text: str, folder: Path = Path("/"), **options: Any) -> list[Any]:
    return apply([DeclarationFile("shop.yaml", text.encode(), folder)], **options)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "shop.conf").write_text("port={{ PORT }}\n\n")
    monkeypatch.setenv("SHOP_SECRET", '{"password": "hunter22"}\n')
    make_group(name="web")
    return tmp_path


def rows_of(project: Project) -> list[dict[str, Any]]:
    return [model_to_dict(row, exclude=["id", "project"]) for row in project.config_files.all()]


def test_a_file_is_declared_with_its_content_beside_it_and_nothing_of_it_is_told(shop: Path) -> None:
    (change,) = applied(SHOP, shop)
    project = Project.objects.get()
    first, second, third = project.config_files.order_by("id")
    assert first.content == "port={{ PORT }}\n\n"
    assert (first.check_command, first.mode, first.owner) == ("shop --check {file}", "0644", "root:shop")
    assert (second.content, second.mode) == ('{"password": "hunter22"}\n', "0640")
    assert third.server_group == ServerGroup.objects.get()
    assert "hunter22" not in str(change)
    assert applied(SHOP, shop) == []
    (shop / "shop.conf").write_text("port={{ PORT }}\n")
    (change,) = applied(SHOP, shop)
    assert str(change.fields[0]) == "config_files./etc/shop.conf.content: changed"
    assert [version.number for version in first.versions.all()] == [2, 1]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("is_template: true|content: '{{ PROT }}'", "config_files[0].content: line 1: “PROT” is not defined"),
        ("content: '{{ ONLY_BUILD }}'|is_template: true", "“ONLY_BUILD” is not defined"),
        ("content: x|check_command: a {file}", "check_command: there is no such key; expected one of path,"),
        ("content: x|check: nginx -t", "config_files[0].check: The command must name {file}"),
        ("content: x|mode: rw", "“rw” is not a mode"),
        ("mode: '0644'", "expected one of content, content_env, content_file."),
        ("content: x|server_group: nowhere", "there is no server group “nowhere”"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_place(wrong: str, told: str) -> None:
    said = "".join(f"        {line}\n" for line in wrong.split("|"))
    text = SHOP.partition("    config_files")[0] + f"    config_files:\n      - path: /etc/x.conf\n{said}"
    with pytest.raises(DeclarationError) as raised:
        applied(text)
    assert told in "\n".join(raised.value.mistakes)
    assert not Project.objects.exists()


def test_two_groups_for_one_server_are_refused_however_they_are_declared(shop: Path) -> None:
    server = make_server(name="web-1")
    ServerGroup.objects.get().servers.add(server)
    make_group(server, name="other")
    text = SHOP + '      - {path: /etc/shop.conf, content: "x", server_group: other}\n'
    with pytest.raises(DeclarationError, match="web-1 is in the groups “other” and “web”"):
        applied(text, shop)
    assert not Project.objects.exists()


def test_what_is_exported_is_the_same_when_it_is_applied(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    applied(SHOP, shop)
    project = Project.objects.get()
    before, text = rows_of(project), as_yaml(project)
    assert "hunter22" not in text
    assert "content_env: SHOP_FILE_" in text
    name = text.partition("content_env: ")[2].split()[0]
    monkeypatch.setenv(name, '{"password": "hunter22"}\n')
    assert applied(text) == []
    project.delete()
    applied(text)
    assert rows_of(Project.objects.get()) == before


def test_a_copy_has_the_files_and_those_of_groups_only_in_the_same_environment(shop: Path) -> None:
    applied(SHOP, shop)
    project = Project.objects.get()
    assert rows_of(project.copy("again", "production")) == rows_of(project)
    moved = project.copy("elsewhere", "staging")
    assert [(row.path, row.place) for row in moved.config_files.all()] == [
        ("/etc/shop.conf", ""),
        ("config/secret.json", ""),
    ]


def test_a_comparison_tells_which_files_differ_and_nothing_of_a_secret_one() -> None:
    project, group = make_project(), make_group(make_server())
    plain = ConfigFile.objects.create(project=project, path="/etc/a", content="one\ntwo\n", mode="0600")
    secret = ConfigFile.objects.create(project=project, path="/etc/b", content="password=hunter22", is_secret=True)
    older = make_deployment(project, group, deployment_type="restart_only")
    Deployment.objects.update(status="success", finished_at=older.created_at)
    plain.content, plain.mode, secret.content = "one\nthree\nfour\n", "0644", "password=hunter33"
    plain.save()
    secret.save()
    newer = make_deployment(project, group, deployment_type="restart_only")
    told = [(it.name, it.older, it.newer, it.is_secret) for it in differing_settings(older, newer)]
    assert told == [
        ("Config file /etc/a", "1 line of its own, mode 0600", "2 lines of its own, mode 0644", False),
        ("Config file /etc/b", "", "", True),
    ]


def test_versions_are_kept_for_each_content_and_no_more_than_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ConfigFile, "VERSIONS", 3)
    file = ConfigFile.objects.create(project=make_project(), path="/etc/a", content="0")
    for number in range(1, 6):
        file.content, file.mode = str(number), "0600"
        file.save()
        file.save()
    assert [(it.number, it.content) for it in file.versions.all()] == [(6, "5"), (5, "4"), (4, "3")]


def test_the_record_has_a_fingerprint_of_a_content_and_no_entry_for_its_versions() -> None:
    file = ConfigFile(project=make_project(), path="/etc/a", content="password=hunter22\n")
    with saving(file):
        file.save()
    file.content = "password=hunter33\n"
    with saving(file):
        file.save()
    created, changed = Entry.objects.order_by("pk").filter(kind="configfile")
    assert created.after["content"].startswith("secret ")
    assert changed.before["content"] == created.after["content"] != changed.after["content"]
    assert ConfigVersion.objects.count() == 2
    assert not Entry.objects.filter(kind="configversion").exists()


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/etc/",
        "/etc//a",
        "etc/./a",
        "../a",
        "/etc/../a",
        "~root/a",
        "-a",
        "/etc/a\nb",
        "a/.deployer/b",
        "x" * 190,
    ],
)
def test_a_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(ValidationError, match="path"):
        ConfigFile(project=make_project(), path=path).full_clean()


@pytest.mark.parametrize("path", [".env", "uploads/a", "uploads", "log/app.log"])
def test_a_shared_path_is_no_place_for_a_file_of_each_release(path: str) -> None:
    project = make_project(shared_paths=".env, uploads/, log/app.log")
    with pytest.raises(ValidationError, match="is a shared path"):
        ConfigFile(project=project, path=path).full_clean()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mode", "0999"), ("mode", "rw"), ("mode", "0044"), ("mode", "04755"),
        ("owner", "a b"), ("owner", ":x"), ("owner", "x:"), ("owner", "x:y:z"),
        ("check_command", "nginx -t"), ("content", "x" * (256 * 1024 + 1)), ("content", "a\0b"),
    ],
)  # fmt: skip
def test_values_that_a_server_could_not_take_are_refused(field: str, value: str) -> None:
    with pytest.raises(ValidationError, match=field):
        ConfigFile(project=make_project(), path="/etc/a", **{field: value}).full_clean()
