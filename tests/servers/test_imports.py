"""What an import promises: what files of other tools say about servers, compared with what is here, and taken whole."""

import time
from dataclasses import asdict
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from people.models import Grant
from servers.imports import ansible, openssh
from servers.imports.comparing import ImportPlan
from servers.imports.listing import MAX_BYTES, Listing, UnreadableListingError, text_of
from servers.imports.rows import Choices
from servers.imports.taking import take
from servers.models import Credential, Server, ServerGroup
from tests.factories import make_credential, make_group, make_server, make_user

CONFIG = """\
# everywhere
Port 2200
Host bastion gate
  HostName bastion.example.com
  User=ops
Host web-* !web-9
  User deploy
  ProxyJump bastion
  IdentityFile "~/.ssh/web key"
Host web-1
  HostName 10.0.0.1
  User ignored
Host web-2
  HostName %h.internal   # with a comment
Host web-9
  ProxyCommand ssh -q -W %h:%p ops@bastion
Host *.example.org
  User nobody
Include conf.d/*
Match exec "touch /tmp/deployer-was-here"
  User evil
Host db
  ProxyJump none
  Port 22
Host *
  User admin
  ProxyJump bastion
"""

INVENTORY = """\
lonely ansible_host=192.0.2.9

[web]
web[01:05:2].example.com ansible_user=deploy
# in two ranges
[db]
db-[a:b]-[1:2] ansible_port=2222
gate.example.com:5022

[shop:children]
web
db

[shop:vars]
ansible_user=shop
ansible_ssh_private_key_file=~/.ssh/shop.pem

[db:vars]
ansible_user = dba

[all:vars]
ansible_ssh_common_args='-o StrictHostKeyChecking=yes -o ProxyJump=ops@gate.example.com:5022'
ansible_password=hunter2

[odd:whatever]
x
"""

YAML_INVENTORY = """\
all:
  vars: {ansible_user: deploy}
  hosts:
    lonely: {ansible_host: 192.0.2.9}
  children:
    web:
      hosts:
        web[1:2].example.com:
        win: {ansible_connection: winrm}
      vars:
        ansible_port: 2222
        ansible_password: !vault |
          $ANSIBLE_VAULT;1.1;AES256
          6238
    shop:
      children:
        web:
        db:
          hosts:
            db-1:
              ansible_user: dba
              ansible_host: "{{ address }}"
"""


def facts(listing: Listing) -> dict[str, tuple[str, str, str, list[str]]]:
    """Host, port, user and jump hosts of each server by its name."""
    return {found.name: (found.host, found.port, found.username, found.jumps) for found in listing.servers}


def problems(listing: Listing) -> dict[str, str]:
    return {found.name: found.problem for found in listing.servers if found.problem}


# --- OpenSSH -----------------------------------------------------------------------------------------


def test_a_config_is_read_as_ssh_reads_it_the_first_value_of_each_word_wins() -> None:
    listing = openssh.read(CONFIG)
    assert facts(listing) == {
        "bastion": ("bastion.example.com", "2200", "ops", ["bastion"]),
        "gate": ("bastion.example.com", "2200", "ops", ["bastion"]),
        "web-1": ("10.0.0.1", "2200", "deploy", ["bastion"]),
        "web-2": ("web-2.internal", "2200", "deploy", ["bastion"]),
        "web-9": ("web-9", "2200", "admin", ["ops@bastion"]),
        "db": ("db", "2200", "admin", []),
    }
    assert {found.name: found.key_file for found in listing.servers}["web-1"] == "~/.ssh/web key"


def test_the_same_config_means_the_same_to_ssh_itself(tmp_path: Any) -> None:
    import subprocess

    file = tmp_path / "config"
    file.write_text(CONFIG[: CONFIG.index("Include")] + CONFIG[CONFIG.index("Host db") :])
    for name, (host, port, user, jumps) in facts(openssh.read(file.read_text())).items():
        said = subprocess.run(["ssh", "-G", "-F", file, name], check=True, capture_output=True, text=True).stdout
        options = dict(line.split(" ", 1) for line in said.splitlines() if " " in line)
        assert (options["hostname"], options["port"], options["user"]) == (host, port, user), name
        way = options.get("proxyjump") or options.get("proxycommand", "none")
        assert (way == "none") == (not jumps), name


def test_what_depends_on_the_machine_is_named_and_left_out() -> None:
    notes = " ".join(openssh.read(CONFIG).notes)
    assert "“Include conf.d/*” is not followed" in notes
    assert "Match exec" in notes


def test_a_command_that_is_no_jump_host_and_an_unknown_token_cannot_be_taken() -> None:
    config = (
        "Host a\n ProxyCommand nc -X 5 %h %p\nHost b\n HostName %l.example.com\nHost c\n ProxyCommand ssh gw nc %h 22\n"
    )
    assert sorted(problems(openssh.read(config))) == ["a", "b", "c"]


@pytest.mark.parametrize("text", ["", "# nothing", "User x", "Host *\n User x", "\0", "{json: 1}"])
def test_a_config_without_servers_is_refused(text: str) -> None:
    with pytest.raises(UnreadableListingError):
        openssh.read(text)


# --- Ansible -----------------------------------------------------------------------------------------


def test_an_ini_inventory_gives_ranges_groups_children_and_the_nearest_variable() -> None:
    listing = ansible.read(INVENTORY)
    jump = ["ops@gate.example.com:5022"]
    assert facts(listing) == {
        "lonely": ("192.0.2.9", "", "", jump),
        "web01.example.com": ("web01.example.com", "", "deploy", jump),
        "web03.example.com": ("web03.example.com", "", "deploy", jump),
        "web05.example.com": ("web05.example.com", "", "deploy", jump),
        "db-a-1": ("db-a-1", "2222", "dba", jump),
        "db-a-2": ("db-a-2", "2222", "dba", jump),
        "db-b-1": ("db-b-1", "2222", "dba", jump),
        "db-b-2": ("db-b-2", "2222", "dba", jump),
        "gate.example.com": ("gate.example.com", "5022", "dba", jump),
    }
    assert {name: len(members) for name, members in listing.groups.items()} == {"web": 3, "db": 5, "shop": 8}
    assert "hunter2" not in str(asdict(listing))
    assert any("Passwords" in note for note in listing.notes)
    assert any("odd:whatever" in note for note in listing.notes)


def test_a_yaml_inventory_gives_the_same_kind_of_answer() -> None:
    listing = ansible.read(YAML_INVENTORY)
    assert facts(listing)["web1.example.com"] == ("web1.example.com", "2222", "deploy", [])
    assert facts(listing)["lonely"] == ("192.0.2.9", "", "deploy", [])
    assert facts(listing)["db-1"][2] == "dba"
    assert listing.groups == {
        "web": ["web1.example.com", "web2.example.com", "win"],
        "shop": ["web1.example.com", "web2.example.com", "win", "db-1"],
        "db": ["db-1"],
    }
    assert "winrm" in problems(listing)["win"]
    assert "template" in problems(listing)["db-1"]
    assert "VAULT" not in str(asdict(listing))


@pytest.mark.parametrize(
    ("arguments", "jumps"),
    [
        ("-J a,b", ["a", "b"]),
        ("-o ProxyJump=a", ["a"]),
        ("-oProxyJump=a@b:22", ["a@b:22"]),
        ("-o ProxyJump=none", []),
        ("-o ControlMaster=auto -o ControlPersist=60s", []),
        ('-o ProxyCommand="ssh -W %h:%p -q user@gate"', ["user@gate"]),
        ('-o ProxyCommand="ssh -p 99 -l user -W %h:%p gate"', ["user@gate:99"]),
        ('-o ProxyCommand="nc -x proxy %h %p"', None),
        ('-o ProxyCommand="ssh gate; touch /tmp/x"', None),
        ("-o 'ProxyJump=a", None),
    ],
)
def test_the_jump_host_is_found_in_the_arguments_of_ssh(arguments: str, jumps: list[str] | None) -> None:
    listing = ansible.read_ini(f"[g]\nh\n[g:vars]\nansible_ssh_common_args={arguments}\n")
    found = listing.servers[0]
    if jumps is None:
        assert "is not a jump host" in found.problem
    else:
        assert (found.jumps, found.problem) == (jumps, "")


@pytest.mark.parametrize(
    ("text", "name", "yaml"),
    [
        ("web:\n  hosts:\n", "", True),
        ("---\nall: {}\n", "", True),
        ("# x\n[web]\n", "", False),
        ("web-1:22\n", "", False),
        ("web-1 a=b\n", "", False),
        ("[web]\n", "hosts.yml", True),
        ("web:\n", "hosts.ini", False),
    ],
)
def test_the_format_of_an_inventory_is_told_by_its_name_or_its_first_line(text: str, name: str, yaml: bool) -> None:
    assert ansible.is_yaml(text, name) == yaml


# --- hostile files -----------------------------------------------------------------------------------

HOSTILE = {
    "a million hosts": "web[0000000:1000000]",
    "a million million hosts": "web[1:999999999][1:999999999]",
    "brackets made to be slow": "x" + "[a]" * 50_000 + "\n" + "[1:2]" * 40,
    "many ranges": "a[1:9][1:9][1:9][1:9][1:9][1:9][1:9]",
    "the same range again and again": "a[1:2000]\n" * 20_000,
    "too many hosts": "\n".join(f"h{number}" for number in range(2001)),
    "too many groups": "\n".join(f"[g{number}]\nh" for number in range(300)),
    "groups in a circle": "[a:children]\nb\n[b:children]\na\n[c]\nh",
    "a group in itself": "[a:children]\na\n[a]\nh",
    "too many members": "".join(f"[g{n}:children]\ng{n + 1}\n" for n in range(150))
    + "[g150]\n"
    + "\n".join(f"h{n}" for n in range(1000)),
}
HOSTILE_YAML = {
    "a bomb of aliases": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(
        f"{b}: &{b} [*{a},*{a},*{a},*{a},*{a},*{a},*{a},*{a},*{a}]\n"
        for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    ),
    "a deep one": "{a: " * 20_000,
    "deep lists": "[" * 100_000,
    "a python object": "!!python/object/apply:os.system ['touch /tmp/x']",
    "a list": "- a\n- b\n",
    "text": "only text",
    "no YAML": "a: b: c: [",
    "control characters": "all:\n  hosts:\n    a\x07b:\n",
    "a key that is a list": "? [a, b]\n: c\n",
    "a million hosts": "all: {hosts: {'web[1:1000000]': }}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_an_ini_inventory_that_is_too_much_is_refused_in_no_time(name: str) -> None:
    begun = time.process_time()
    with pytest.raises(UnreadableListingError) as caught:
        ansible.read_ini(HOSTILE[name])
    assert str(caught.value)
    assert time.process_time() - begun < 5


@pytest.mark.parametrize("name", HOSTILE_YAML)
def test_a_hostile_yaml_inventory_is_refused_in_no_time(name: str) -> None:
    begun = time.process_time()
    with pytest.raises(UnreadableListingError) as caught:
        ansible.read_yaml(HOSTILE_YAML[name])
    assert str(caught.value)
    assert time.process_time() - begun < 5


@pytest.mark.parametrize(
    "config",
    [
        "".join(f"Host h{number}\n" for number in range(2001)),
        "Host h\n" + "".join(f"Host *{number}*\n" for number in range(201)),
    ],
)
def test_a_config_that_is_too_much_is_refused(config: str) -> None:
    with pytest.raises(UnreadableListingError):
        openssh.read(config)


def test_a_pattern_made_to_be_slow_is_not() -> None:
    begun = time.process_time()
    stars = "*a" * 100 + "b"
    config = "".join(f"Host {'a' * 90}{number}\n" for number in range(1000)) + f"Host {stars}\n User x\n" * 150
    assert len(openssh.read(config).servers) == 1000
    assert time.process_time() - begun < 10


@pytest.mark.parametrize("data", [b"\xff\xfe", b"Host a\0b", b"x" * (MAX_BYTES + 1)])
def test_a_file_that_is_no_text_or_too_large_is_refused(data: bytes) -> None:
    with pytest.raises(UnreadableListingError):
        text_of(data)


# --- the plan ----------------------------------------------------------------------------------------


def plan_of(text: str) -> ImportPlan:
    return ImportPlan(openssh.read(text), make_user())


def states(plan: ImportPlan) -> dict[str, str]:
    return {row.found.name: row.state for row in plan.servers}


@pytest.mark.django_db
def test_what_is_here_is_recognised_by_its_name_or_its_address() -> None:
    login = make_credential(username="deploy")
    make_server(name="same", host="192.0.2.1", credential=login)
    make_server(name="moved", host="192.0.2.2", credential=login)
    make_server(name="other-name", host="2001:db8::1", credential=login)
    plan = plan_of(
        "Host same\n HostName 192.0.2.1\n User deploy\nHost moved\n HostName 192.0.2.9\n Port 99\n User ops\n"
        "Host alias\n HostName 2001:DB8:0::1\nHost new\nHost twin\n HostName NEW.\n"
    )
    assert states(plan) == {"same": "same", "moved": "differs", "alias": "same", "new": "new", "twin": "refused"}
    rows = {row.found.name: row for row in plan.servers}
    assert [(change.old, change.new) for change in rows["moved"].changes] == [
        ("192.0.2.2", "192.0.2.9"),
        ("22", "99"),
        ("deploy", "ops"),
    ]
    assert rows["alias"].existing == Server.objects.get(name="other-name")
    assert plan.proposed().servers == [rows["new"].mark]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("config", "why"),
    [
        ("Host 'a b'\n", "is not a host name"),
        ("Host a\n Port 0\n", "is not a port"),
        ("Host a\n Port 99999\n", "is not a port"),
        ("Host a\n Port 22x\n", "is not a port"),
        ("Host a\n HostName 'x;rm -rf ~'\n", "is not a host name"),
        ("Host a\u202eb\n HostName h\n", "invisible"),
        ("Host a\n User 'x\ty'\n", "control characters"),
        (f"Host {'a' * 101}\n HostName h\n", "100"),
        ("Host a\n ProxyJump nowhere\n", "neither in this file nor here"),
        ("Host a\n ProxyJump a\n", "its own jump host"),
        ("Host a\n ProxyJump b\nHost b\n ProxyJump a\n", "loop"),
        ("Host a\n ProxyJump b\nHost b\n Port 0\n", "cannot be imported"),
        ("Host a\n ProxyJump c,b\nHost b\nHost c\n", "it is reached through"),
    ],
)
def test_what_cannot_be_taken_says_why(config: str, why: str) -> None:
    row = plan_of(config).servers[0]
    assert row.state == "refused"
    assert why in row.why
    with pytest.raises(ValidationError):
        take(plan_of(config), Choices(servers=[row.mark]))
    assert not Server.objects.exists()


@pytest.mark.django_db
def test_an_import_makes_servers_with_their_jump_hosts_groups_and_logins_and_again_it_finds_them_all() -> None:
    shop, dba = make_credential(name="shop", username="deploy"), make_credential(name="dba", username="dba")
    ops = make_credential(name="ops", username="ops")
    text = INVENTORY.replace(
        "[all:vars]\nansible_ssh_common_args", "[db:vars]\nx=y\n[web:vars]\nansible_ssh_common_args"
    ).replace("ops@gate", "dba@gate")
    plan = ImportPlan(ansible.read(text), make_user())
    choices = plan.proposed()
    nobody = next(login for login in plan.logins if not login.username)
    assert nobody.credential is None
    choices = Choices(
        choices.servers, choices.groups, choices.environments, {**choices.credentials, nobody.number: str(ops.pk)}
    )
    done = take(plan, choices)
    assert (done.made, done.changed, done.groups) == (9, 0, 3)
    web = Server.objects.get(name="web03.example.com")
    assert (web.credential, str(web.jump_host)) == (shop, "gate.example.com")
    gate = Server.objects.get(name="gate.example.com")
    assert (gate.credential, gate.address, gate.jump_host) == (dba, "gate.example.com:5022", None)
    assert ServerGroup.objects.get(name="shop").servers.count() == 8
    again = ImportPlan(ansible.read(text), make_user())
    assert {row.state for row in again.servers} == {"same"}
    assert {group.state for group in again.groups} == {"same"}


@pytest.mark.django_db
def test_an_import_changes_only_what_was_ticked_and_adds_to_groups_without_removing() -> None:
    login = make_credential(username="deploy")
    old = make_server(
        name="web-1", host="192.0.2.1", credential=login, host_key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA=="
    )
    other, kept = make_server(name="web-2", host="192.0.2.2", credential=login), make_server(name="kept")
    group = make_group(kept, name="web", environment="production")
    text = "[web]\nweb-1 ansible_host=192.0.2.11\nweb-2 ansible_host=192.0.2.12\n"
    plan = ImportPlan(ansible.read(text), make_user())
    marks = {row.found.name: row.mark for row in plan.servers}
    done = take(plan, Choices(servers=[marks["web-1"]], groups=[plan.groups[0].mark]))
    assert (done.made, done.changed, done.groups) == (0, 1, 1)
    old.refresh_from_db()
    other.refresh_from_db()
    assert (old.host, other.host) == ("192.0.2.11", "192.0.2.2")
    assert old.host_key.startswith("ssh-ed25519")
    assert {*group.servers.all()} == {old, other, kept}


@pytest.mark.django_db
def test_what_was_changed_since_it_was_looked_at_is_not_imported() -> None:
    login = make_credential(username="deploy")
    plan = plan_of("Host web-1\n User deploy\nHost web-2\n User deploy\n")
    choices = plan.proposed()
    make_server(name="web-1", host="192.0.2.1", credential=login)
    with pytest.raises(ValidationError, match="changed here in the meantime"):
        take(plan_of("Host web-1\n User deploy\nHost web-2\n User deploy\n"), choices)
    assert not Server.objects.filter(name="web-2").exists()


@pytest.mark.django_db
def test_a_server_is_not_taken_without_its_jump_host_or_a_credential() -> None:
    make_credential(username="deploy")
    plan = plan_of("Host door\n User deploy\nHost web\n User deploy\n ProxyJump door\n")
    marks = {row.found.name: row.mark for row in plan.servers}
    with pytest.raises(ValidationError, match="is reached through door"):
        take(plan, Choices(servers=[marks["web"]], credentials=plan.proposed().credentials))
    with pytest.raises(ValidationError, match="Choose a credential for deploy"):
        take(plan, Choices(servers=plan.proposed().servers))
    assert not Server.objects.exists()


@pytest.mark.django_db
def test_if_one_thing_is_wrong_nothing_is_imported() -> None:
    login = make_credential(username="deploy")
    plan = ImportPlan(ansible.read("[g]\nweb-[1:3] ansible_user=deploy\n"), make_user())
    choices = Choices(plan.proposed().servers, [plan.groups[0].mark], {0: "no such environment"}, {0: str(login.pk)})
    with pytest.raises(ValidationError):
        take(plan, choices)
    assert not Server.objects.exists()
    assert not ServerGroup.objects.exists()


@pytest.mark.django_db
def test_a_circle_over_servers_that_are_here_is_refused_whole() -> None:
    login = make_credential(username="deploy")
    first = make_server(name="a", host="a", credential=login)
    make_server(name="b", host="b", credential=login, jump_host=first)
    plan = plan_of("Host a\n User deploy\n ProxyJump b\n")
    with pytest.raises(ValidationError, match="loop"):
        take(plan, Choices(servers=[plan.servers[0].mark]))
    first.refresh_from_db()
    assert first.jump_host is None


# --- the pages ---------------------------------------------------------------------------------------


@pytest.fixture
def client() -> Client:
    client = Client()
    client.force_login(make_user())
    return client


@pytest.mark.django_db
def test_a_file_is_looked_at_and_then_taken(client: Client) -> None:
    make_credential(username="deploy")
    file = SimpleUploadedFile("hosts.ini", b"\xef\xbb\xbf[prod]\r\nweb-[1:2] ansible_user=deploy\r\n")
    page = client.post(reverse("server_import"), {"source": "ansible", "file": file})
    assert not Server.objects.exists()
    plan = page.context["plan"]
    values = {
        "listing": page.context["listing"],
        "server": [row.mark for row in plan.servers],
        "group": [plan.groups[0].mark],
        "environment-0": "production",
        "credential-0": str(plan.logins[0].credential.pk),
    }
    told = client.post(reverse("server_import_take"), values, follow=True).content.decode()
    assert "2 new servers" in told
    assert ServerGroup.objects.get().environment == "production"
    assert [str(server) for server in Server.objects.all()] == ["web-1", "web-2"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "values",
    [
        {},
        {"source": "openssh"},
        {"source": "x", "text": "Host a"},
        {"source": "ansible", "text": "a: &x\nb: *x\n", "file": ""},
    ],
)
def test_what_cannot_be_read_is_said_on_the_form(client: Client, values: dict[str, str]) -> None:
    page = client.post(reverse("server_import"), values)
    assert page.status_code == 200
    assert page.context["form"].errors


@pytest.mark.django_db
def test_hostile_names_are_text_on_the_page_and_no_secret_is_on_it(client: Client) -> None:
    text = "[<script>alert(1)</script>]\n<img/src=x> ansible_user=<b>x</b> ansible_password=hunter2\n"
    page = client.post(reverse("server_import"), {"source": "ansible", "text": text}).content.decode()
    assert "&lt;img/src=x&gt;" in page
    assert "<img/src" not in page
    assert "<script>alert" not in page
    assert "hunter2" not in page


@pytest.mark.django_db
def test_a_list_that_was_tampered_with_is_not_imported(client: Client) -> None:
    page = client.post(reverse("server_import_take"), {"listing": "x:y:z", "server": ["0:new"]}, follow=True)
    assert "Nothing was imported" in page.content.decode()
    assert not Server.objects.exists()


@pytest.mark.django_db
def test_more_servers_in_a_file_cost_no_more_queries(client: Client) -> None:
    login = make_credential(username="deploy")

    def queries(number: int, name: str) -> tuple[int, int]:
        text = f"[{name}]\n{name}[1:{number}] ansible_user=deploy\n"
        with CaptureQueriesContext(connection) as looked:
            page = client.post(reverse("server_import"), {"source": "ansible", "text": text})
        values = {"listing": page.context["listing"], "credential-0": str(login.pk), "environment-0": "staging"}
        values |= {"server": page.context["choices"].servers, "group": page.context["choices"].groups}
        with CaptureQueriesContext(connection) as taken:
            client.post(reverse("server_import_take"), values)
        return len(looked), len(taken)

    queries(1, "first")  # the first group is there from now on
    few, many = queries(2, "few"), queries(60, "many")  # SQLite takes no more in one statement
    assert Server.objects.count() == 63
    assert many == few


@pytest.mark.django_db
def test_two_thousand_servers_are_looked_at_and_taken(client: Client) -> None:
    login = make_credential(username="deploy")
    page = client.post(
        reverse("server_import"), {"source": "ansible", "text": "[g]\nn[0001:2000] ansible_user=deploy\n"}
    )
    values = {"listing": page.context["listing"], "credential-0": str(login.pk), "environment-0": "staging"}
    values |= {"server": page.context["choices"].servers, "group": page.context["choices"].groups}
    client.post(reverse("server_import_take"), values)
    assert ServerGroup.objects.get().servers.count() == 2000


@pytest.mark.django_db
def test_who_may_not_make_servers_and_groups_imports_none() -> None:
    client = Client()
    client.force_login(make_user(is_superuser=False))
    assert client.get(reverse("server_import")).status_code == 403
    assert client.post(reverse("server_import_take"), {}).status_code == 403
    assert not Credential.objects.exists()


def of_staging() -> Any:
    user = make_user(is_superuser=False)
    Grant.objects.create(user=user, role="maintainer", environment="staging")
    return user


@pytest.mark.django_db
def test_an_import_tells_of_what_is_out_of_sight_only_that_a_name_is_taken() -> None:
    login = make_credential(name="theirs", username="deploy", hosts="*.example.com")
    make_group(make_server(name="web", host="192.0.2.99", credential=login), name="shop", environment="production")
    plan = ImportPlan(ansible.read("[shop]\nweb ansible_host=192.0.2.1\nnew ansible_host=192.0.2.99\n"), of_staging())
    assert [(row.state, row.why, row.changes) for row in plan.servers] == [
        ("refused", "a server of that name exists", []),
        ("new", "", []),
    ]
    assert [(group.state, group.why, group.existing) for group in plan.groups] == [
        ("refused", "a group of that name exists", None)
    ]
    assert not plan.credentials


@pytest.mark.django_db
def test_an_import_puts_new_servers_into_groups_of_environments_that_somebody_maintains() -> None:
    login = make_credential(username="deploy", environment="staging")
    plan = ImportPlan(ansible.read("[shop_production]\nweb ansible_user=deploy\n"), of_staging())
    assert plan.groups[0].environment == "staging"
    chosen = plan.proposed()
    with pytest.raises(ValidationError, match="in no group"):
        take(plan, Choices(servers=chosen.servers, credentials=chosen.credentials))
    plan = ImportPlan(ansible.read("[shop_production]\nweb ansible_user=deploy\n"), plan.user)
    with pytest.raises(ValidationError, match="no right to add the group"):
        take(plan, Choices(chosen.servers, chosen.groups, {0: "production"}, chosen.credentials))
    assert not Server.objects.exists()
    plan = ImportPlan(ansible.read("[shop_production]\nweb ansible_user=deploy\n"), plan.user)
    take(plan, chosen)
    assert Server.objects.get().credential == login
    assert ServerGroup.objects.get().environment == "staging"


@pytest.mark.django_db
def test_an_import_neither_changes_nor_moves_a_server_that_is_seen_and_not_maintained() -> None:
    server = make_server(name="web", host="192.0.2.1", credential=make_credential())
    make_group(server, environment="staging")
    make_group(server, environment="production")
    text = "[new]\nweb ansible_host=192.0.2.2\n[other]\nweb\n"
    plan = ImportPlan(ansible.read(text), of_staging())
    assert (plan.servers[0].state, plan.servers[0].existing) == ("refused", server)
    same = ImportPlan(ansible.read("[new]\nweb ansible_host=192.0.2.1\n"), plan.user)
    assert same.servers[0].state == "same"
    assert [group.state for group in (*plan.groups, *same.groups)] == ["refused", "refused", "refused"]
