"""Attacks on logins: a credential sent to a machine that it is not for, and secrets in what is kept or shown."""

import base64
import contextlib
import http.server
import ipaddress
import os
import re
import secrets
import shlex
import ssl
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from django.conf import settings
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.urls import reverse
from redis import Redis

from deployer.board.sightings import refresh
from deployer.declaring.reading import DeclarationError, DeclarationFile
from deployer.declaring.writing import apply
from deployer.engine.routines import carry_out
from deployer.models import Deployment, Sighting, Target
from deployer.releases.workfolders import WorkFolder
from deployer.repositories.mirror import Mirror, fetch
from people.models import ApiToken, Grant
from projects.commands import git
from projects.models import Project
from servers.connection import try_connection
from servers.errors import NotReadyError
from servers.models import Credential, Server
from tests.factories import make_credential, make_deployment, make_group, make_project, make_server, make_user
from tests.parts.certificates import signed_by_itself
from tests.parts.git import GitRepository
from tests.parts.programs import kill_all, program, stop_process, wait_until
from tests.parts.queue import QueueServer
from tests.parts.sshd import OpenSSHServer
from tests.parts.strict import StrictServer
from tests.parts.worker import Worker
from tests.security.table import attack

_FOR_PROJECTS = ("add_project", "change_project", "view_project")


def _client(*permissions: str, is_staff: bool = False) -> Client:
    """The browser of somebody who maintains production, and so sees no credential that is for all environments."""
    user = make_user(is_superuser=False, is_staff=is_staff)
    Grant.objects.create(user=user, role="maintainer", environment="production")
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


@contextlib.contextmanager
def _thief() -> Iterator[StrictServer]:
    """An SSH server of somebody who would like to hear a password."""
    server = StrictServer(["password"])
    try:
        yield server
    finally:
        server.close()


def _own(**values: Any) -> Credential:
    """The credential of the real machines."""
    return make_credential(**{"hosts": "*.example.com, 10.0.0.0/8"} | values)


def _placed(**values: Any) -> Server:
    """A server that those who maintain production may edit."""
    server = make_server(**values)
    make_group(server)
    return server


def _posted(server: dict[str, Any]) -> dict[str, Any]:
    """A server as the form of the page sends it."""
    return {"name": f"web-{secrets.token_hex(4)}", "host": "127.0.0.1", "port": "22", "is_active": "on"} | server


def _heard(thief: StrictServer) -> list[str]:
    """What the thief was told once every server that leads to it was connected to."""
    for server in Server.objects.filter(host="127.0.0.1", port=thief.port):
        try_connection(server)
    return [answer for login in thief.logins for answer in login.answers]


def _html(answer: Any) -> str:
    return re.sub(r"\s+", " ", answer.content.decode())


# --- servers ------------------------------------------------------------------------------------------


@attack("login", "a new server of somebody's own with the password of another one")
def new_server(_folder: Path) -> str:
    credential = _own()
    with _thief() as thief:
        values = _posted({"credential": credential.pk, "port": thief.port, "groups": [make_group().pk]})
        html = _html(_client().post(reverse("server_add"), values))
        assert not _heard(thief), "the password arrived"
    assert not credential.servers.exists()
    assert "Select a valid choice" in html
    assert credential.name not in html
    return "the form knows no such credential, and does not name it"


@attack("login", "the host, then the port of a server changed, and its credential with it")
def moved_server(_folder: Path) -> str:
    server = _placed(host="web-1.example.com", credential=_own())
    with _thief() as thief:
        client, address = _client(), reverse("server_edit", args=[server.pk])
        values = _posted({"name": server.name, "credential": server.credential.pk})
        values["groups"] = [*server.groups.values_list("pk", flat=True)]
        client.post(address, values | {"port": thief.port})
        client.post(address, values | {"host": "web-1.example.com", "port": thief.port})
        assert not _heard(thief), "the password arrived"
    server.refresh_from_db()
    assert server.address == "web-1.example.com:22"
    client.post(address, values | {"host": "web-2.example.com"})
    server.refresh_from_db()
    assert server.host == "web-2.example.com", "a host that the credential is for is not refused"
    return "refused; to another host of its patterns it may move"


@attack("login", "another credential chosen for a server of somebody's own")
def exchanged_credential(_folder: Path) -> str:
    target = _own()
    with _thief() as thief:
        own = make_credential(password="my-own", environment="production")
        server = _placed(host="127.0.0.1", port=thief.port, credential=own)
        values = _posted({"name": server.name, "port": thief.port, "credential": target.pk})
        values["groups"] = [*server.groups.values_list("pk", flat=True)]
        _client().post(reverse("server_edit", args=[server.pk]), values)
        assert target.password not in _heard(thief), "the password arrived"
    server.refresh_from_db()
    assert server.credential != target
    return "the credential stays the one that it was"


@attack("login", "a jump host of somebody's own in front of a machine whose key is not known yet")
def own_jump_host(_folder: Path) -> str:
    credential = _own()
    mine = _placed(host="192.0.2.66", credential=make_credential(environment="production"))
    server = _placed(host="web-1.example.com", credential=credential)
    client = _client()
    values = _posted({"name": server.name, "host": server.host, "credential": credential.pk, "jump_host": mine.pk})
    values["groups"] = [*server.groups.values_list("pk", flat=True)]
    assert "is not for 192.0.2.66" in _html(client.post(reverse("server_edit", args=[server.pk]), values))
    new = values | {"name": f"new-{secrets.token_hex(4)}", "host": "web-2.example.com"}
    assert "Select a valid choice" in _html(client.post(reverse("server_add"), new))
    server.refresh_from_db()
    assert server.jump_host is None
    assert not Server.objects.filter(host="web-2.example.com", jump_host=mine).exists()
    return "a credential goes only through machines that it is for itself"


@attack("login", "the jump host of others pointed at another machine")
def moved_jump_host(_folder: Path) -> str:
    gate = _placed(host="gate.example.com", credential=make_credential(hosts="gate.example.com, 192.0.2.0/24"))
    make_server(name=f"behind-{secrets.token_hex(4)}", host="10.0.0.1", credential=_own(), jump_host=gate)
    values = _posted({"name": gate.name, "host": "192.0.2.66", "credential": gate.credential.pk})
    values["groups"] = [*gate.groups.values_list("pk", flat=True)]
    html = _html(_client().post(reverse("server_edit", args=[gate.pk]), values))
    gate.refresh_from_db()
    assert gate.host == "gate.example.com"
    assert "is reached through it" in html
    return "refused for the sake of the servers behind it"


@attack("login", "another machine's host key pinned on the page, then emptied in the admin")
def other_host_key(_folder: Path) -> str:
    with _thief() as thief:
        pinned = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA=="
        server = _placed(host="127.0.0.1", port=thief.port, host_key=pinned)
        client = _client(is_staff=True)
        page = client.post(reverse("host_key", args=[server.pk]))
        shown = page.context["shown"].key
        values = {"shown": shown, "pinned": pinned, "compared": "yes"}
        said = _html(client.post(reverse("host_key_pin", args=[server.pk]), values, follow=True))
        change = {"name": server.name, "host": server.host, "port": server.port, "is_active": "on", "host_key": ""}
        change |= {"credential": server.credential.pk}
        client.post(reverse("admin:servers_server_change", args=[server.pk]), change)
        assert not _heard(thief), "the password arrived"
    server.refresh_from_db()
    assert server.host_key == pinned
    assert server.credential.name in said
    return "the pinned key stays"


@attack("login", "an OpenSSH config imported with the credential of another machine")
def imported_config(_folder: Path) -> str:
    credential = _own(username=f"user-{secrets.token_hex(4)}")
    with _thief() as thief:
        text = f"Host mine\n HostName 127.0.0.1\n Port {thief.port}\n User {credential.username}\n"
        client = _client()
        page = client.post(reverse("server_import"), {"source": "openssh", "text": text})
        values = {"listing": page.context["listing"], "credential-0": credential.pk, "server": ["0:new"]}
        html = _html(client.post(reverse("server_import_take"), values))
        assert not _heard(thief), "the password arrived"
    assert not credential.servers.exists()
    assert f"Choose a credential for {credential.username}" in html
    assert credential.name not in html
    return "nothing is imported, and the credential is not named"


@attack("login", "a server taken over by an Ansible inventory that gives its name another address")
def taken_over_by_import(_folder: Path) -> str:
    server = _placed(host="web-1.example.com", credential=_own())
    with _thief() as thief:
        text = f"[web]\n{server.name} ansible_host=127.0.0.1 ansible_port={thief.port}\n"
        client = _client()
        page = client.post(reverse("server_import"), {"source": "ansible", "text": text})
        client.post(reverse("server_import_take"), {"listing": page.context["listing"], "server": ["0:differs"]})
        assert not _heard(thief), "the password arrived"
    server.refresh_from_db()
    assert server.host == "web-1.example.com"
    return "the server stays where it is"


@attack("login", "servers added and changed in the admin")
def servers_in_admin(_folder: Path) -> str:
    server = _placed(host="web-1.example.com", credential=_own())
    with _thief() as thief:
        client = _client(is_staff=True)
        values = _posted({"port": thief.port, "credential": server.credential.pk})
        added = _html(client.post(reverse("admin:servers_server_add"), values))
        change = reverse("admin:servers_server_change", args=[server.pk])
        changed = _html(client.post(change, values | {"name": server.name}))
        assert not _heard(thief), "the password arrived"
    server.refresh_from_db()
    assert server.host == "web-1.example.com"
    assert server.credential.servers.count() == 1
    assert "is not for 127.0.0.1:" in changed
    assert "Select a valid choice" in added
    return "the admin has the rule of the pages"


@attack("login", "an outsider's servers, groups and credentials asked for by their numbers, on each page and part")
def outsiders(_folder: Path) -> str:
    server = make_server(host="web-1.example.com", credential=_own(environment="staging"))
    group = make_group(server, environment="staging")
    keys = {"server": server.pk, "group": group.pk, "credential": server.credential.pk}
    client = _client(is_staff=True)
    names = [f"{kind}_{act}" for kind in keys for act in ("edit", "delete")]
    tried = [reverse(name, args=[keys[name.partition("_")[0]]]) for name in names]
    tried += [reverse(name, args=[server.pk]) for name in ("server", "server_test", "server_test_briefly", "host_key")]
    tried += [reverse("host_key_pin", args=[server.pk]), reverse("server_test_stage", args=[server.pk, 0])]
    tried += [reverse("group", args=[group.pk])]
    for model, kind in (("server", "server"), ("servergroup", "group"), ("credential", "credential")):
        tried += [reverse(f"admin:servers_{model}_{act}", args=[keys[kind]]) for act in ("change", "delete", "history")]
    for address in tried:
        posted = client.post(address, {"compared": "1", "post": "yes"})
        assert {client.get(address).status_code, posted.status_code} <= {404, 405}, address
    lists = [reverse(name) for name in ("servers", "groups", "credentials", "server_add", "group_add")]
    lists += [reverse(f"admin:servers_{model}_changelist") for model in ("server", "servergroup", "credential")]
    for address in lists:
        html = _html(client.get(address))
        assert not [row for row in (server, group, server.credential) if row.name in html], address
    assert Server.objects.filter(pk=server.pk, groups=group).exists()
    return f"{len(tried)} addresses: not found; {len(lists)} lists: not named"


@attack("login", "a server of another environment put into a group of somebody's own, to launch on it")
def kidnapped_server(_folder: Path) -> str:
    theirs = make_server(host="web-1.example.com", credential=_own(environment="staging"))
    make_group(theirs, environment="staging")
    group, client = make_group(), _client(is_staff=True)
    values = {"name": group.name, "environment": "production", "servers": [theirs.pk]}
    client.post(reverse("group_edit", args=[group.pk]), values)
    client.post(reverse("group_add"), values | {"name": f"mine-{secrets.token_hex(4)}"})
    client.post(reverse("admin:servers_servergroup_change", args=[group.pk]), values)
    text = f"[{group.name}]\n{theirs.name} ansible_host={theirs.host}\n"
    page = client.post(reverse("server_import"), {"source": "ansible", "text": text})
    assert "a server of that name exists" in _html(page)
    take = {"listing": page.context["listing"], "server": ["0:new", "0:differs"], "group": ["0:new", "0:differs"]}
    client.post(reverse("server_import_take"), take)
    assert theirs.groups.get().environment == "staging"
    return "not by a form, the admin or an import"


def _refusal(text: str, folder: Path) -> str:
    """Why a file is not applied."""
    try:
        apply([DeclarationFile("mine.yaml", text.encode(), folder)])
    except DeclarationError as error:
        return str(error)
    raise AssertionError(f"applied: {text}")


@attack("login", "a file that names a credential applied with a server, a jump host and a repository of its own")
def applied(folder: Path) -> str:
    server = make_server(host="web-1.example.com", credential=_own())
    mine = make_server(host="192.0.2.66", credential=make_credential())
    project = make_project(git_credential=_own(hosts="git.example.com"))
    name = secrets.token_hex(4)
    texts = [
        f"servers: [{{name: mine-{name}, host: 192.0.2.67, credential: {server.credential}}}]",
        f"servers: [{{name: {server}, host: 192.0.2.67}}]",
        f"servers: [{{name: {server}, port: '2222'}}]",
        f"servers: [{{name: {server}, jump_host: {mine}}}]",
        f"projects: [{{name: {project}, git_url: 'https://thief.example.com/a.git'}}]",
        f"credentials: [{{name: {project.git_credential}, hosts: git.example.com}}]\n"
        f"projects: [{{name: {project}, git_url: 'https://thief.example.com/a.git'}}]",
    ]
    for text in texts:
        assert "is not for" in _refusal(text, folder)
    assert apply([DeclarationFile("mine.yaml", texts[1].encode(), folder)], may_bind=True)
    server.credential.refresh_from_db()
    assert "192.0.2.67" in server.credential.hosts
    return "each is refused at its place in the file; --bind is for the operator of the machine"


@attack("login", "a server's row pointed elsewhere behind the forms, then used by page, preflight and deployment")
def used_elsewhere(_folder: Path) -> str:
    server = make_server(host="web-1.example.com", credential=_own())
    project, group = make_project(), make_group(server)
    with _thief() as thief:
        Server.objects.filter(pk=server.pk).update(host="127.0.0.1", port=thief.port)
        deployment = make_deployment(project, group, deployment_type="restart_only")
        carry_out(deployment.pk)
        user = make_user()
        token = ApiToken(name="ci", user=user)
        secret = token.renew()
        token.save()
        body = {"project_id": project.pk, "server_group_ids": [group.pk], "deployment_type": "restart_only"}
        api = Client(headers={"authorization": f"Bearer {secret}"})
        asked = api.post("/api/v1/preflight", body, content_type="application/json").content.decode()
        page = _html(_client().post(reverse("server_test", args=[server.pk])))
        assert not _heard(thief), "the password arrived"
    for said in (deployment.targets.get().error, asked, page):
        assert "was not sent" in said, said
        assert server.credential.name in said
    return "the connection itself refuses, and names the credential, the host and the remedy"


@attack("login", "a credential for git used to log in to a server")
def wrong_purpose(_folder: Path) -> str:
    with _thief() as thief:
        credential = make_credential(purpose="git", hosts="127.0.0.1:*")
        values = _posted({"port": thief.port, "credential": credential.pk})
        client = Client()
        client.force_login(make_user())
        assert "is not for servers" in _html(client.post(reverse("server_add"), values))
        server = make_server(host="127.0.0.1", port=thief.port, credential=credential)
        assert not try_connection(server).ok
        assert not _heard(thief), "the password arrived"
    return "refused, whoever asks"


# --- git ----------------------------------------------------------------------------------------------


@attack("login", "the git address of a project changed on its page, in the admin, and in a copy of it")
def moved_repository(_folder: Path) -> str:
    credential = _own()
    project = make_project(git_url="https://git.example.com/shop.git", git_credential=credential)
    client = _client(*_FOR_PROJECTS, is_staff=True)
    name = f"copy-{secrets.token_hex(4)}"
    Credential.objects.filter(pk=credential.pk).update(hosts="")  # somebody has taken it out of use
    client.post(reverse("project_copy", args=[project.pk]), {"name": name, "environment": "production"})
    it = Project.objects.get(name=name)
    credential.refresh_from_db()
    assert not credential.hosts, "a copy has bound it again"
    for row in (project, it):
        form = client.get(reverse("project_edit", args=[row.pk])).context["form"]
        values = {field.html_name: field.value() for field in form if field.value() not in ("", None)}
        values = {name: value for name, value in values.items() if value is not False}
        values |= {"git_url": "https://thief.example.com/shop.git", "git_credential": credential.pk}
        assert "ask somebody who may edit the credential" in _html(
            client.post(reverse("project_edit", args=[row.pk]), values)
        )
        empty = {"health_checks-TOTAL_FORMS": 0, "health_checks-INITIAL_FORMS": 0}
        empty |= {"variables-TOTAL_FORMS": 0, "variables-INITIAL_FORMS": 0}
        change = reverse("admin:projects_project_change", args=[row.pk])
        html = _html(client.post(change, values | empty))
        assert "ask somebody who may edit the credential" in html, html
        row.refresh_from_db()
        assert row.git_url == "https://git.example.com/shop.git"
    add = values | empty | {"name": f"new-{secrets.token_hex(4)}"}
    client.post(reverse("admin:projects_project_add"), add)
    assert not Project.objects.filter(git_url__contains="thief").exists()
    return "refused in all of them"


@attack("login", "a project's row pointed at another git server behind the forms")
def fetched_elsewhere(folder: Path) -> str:
    sshd = OpenSSHServer()
    with _thief() as thief, contextlib.closing(sshd):
        place = {"deploy_path": str(folder / "shop"), "deploy_script_path": "restart.sh"}
        project = make_project(git_url="ssh://git.example.com/a.git", git_credential=_own(), **place)
        Project.objects.filter(pk=project.pk).update(git_url=f"ssh://127.0.0.1:{thief.port}/a.git")
        project = Project.objects.get(pk=project.pk)
        try:
            fetch(project)
        except NotReadyError as error:
            said = str(error)
        deployment = make_deployment(project, make_group(make_server(sshd)))
        carry_out(deployment.pk)
        assert not _heard(thief), "the token arrived"
    deployment.refresh_from_db()
    for sentence in (said, deployment.error_message):
        assert project.git_credential is not None
        assert f"“{project.git_credential}” is not for 127.0.0.1:{thief.port}" in sentence, sentence
    return "git gets no login for another host"


class _Site:
    """An HTTPS server on 127.0.0.1: ``answer`` gives status, headers and body for a path; ``asked`` is what came."""

    def __init__(self, folder: Path, answer: Callable[[str, str], tuple[int, dict[str, str], bytes]]) -> None:
        self.asked: list[tuple[str, str]] = []
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                login = self.headers.get("Authorization", "")
                site.asked.append((self.path, login))
                status, headers, body = answer(self.path, login)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: Any) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(_certificate(folder))
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def logins(self) -> list[str]:
        """The logins that it was sent."""
        return [login for _path, login in self.asked if login]


def _certificate(folder: Path) -> Path:
    """A key and a certificate of 127.0.0.1 that signs itself, in one file."""
    path = folder / "site.pem"
    if not path.exists():
        own = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        path.write_bytes(signed_by_itself(own, common_name="a"))
    return path


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _fetched(url: str, credential: Credential | None, folder: Path) -> tuple[int, str]:
    """The exit status of a fetch as the product does it, and its explanation; ``folder`` has the site's certificate."""
    certificate = str(_certificate(folder))
    with WorkFolder("git") as work, _environment(SSL_CERT_FILE=certificate):
        mirror = Mirror(url, credential, work.path)
        mirror.env["GIT_SSL_CAINFO"] = certificate
        code, _out, said = mirror.read(mirror.fetching(), 60)
        return code, " ".join(mirror.explain(said)) if code else ""


_ASKS = {"WWW-Authenticate": 'Basic realm="git"'}


@attack("login", "a git server that redirects to another one, which asks for the login")
def git_redirect(folder: Path) -> str:
    other = _Site(folder, lambda _path, _login: (401, _ASKS, b""))
    first = _Site(folder, lambda path, _login: (302, {"Location": f"{other.url}{path}"}, b""))
    try:
        credential = make_credential(hosts="127.0.0.1:*")
        code, said = _fetched(f"{first.url}/shop.git", credential, folder)
    finally:
        first.close()
        other.close()
    assert code
    assert not other.asked, "git has followed"
    assert f"redirects to {other.url}/shop.git" in said, said
    return said


@attack("login", "a git server of the old kind that names another one as its alternate")
def git_alternates(folder: Path) -> str:
    other = _Site(folder, lambda _path, _login: (401, _ASKS, b""))

    def answer(path: str, login: str) -> tuple[int, dict[str, str], bytes]:
        if not login:
            return 401, _ASKS, b""
        bodies = {
            "info/refs": f"{'5' * 40}\trefs/heads/main\n".encode(),
            "HEAD": b"ref: refs/heads/main\n",
            "objects/info/http-alternates": f"{other.url}/thief.git/objects\n".encode(),
        }
        body = bodies.get(path.partition("?")[0].removeprefix("/shop.git/"))
        return (404, {}, b"") if body is None else (200, {"Content-Type": "text/plain"}, body)

    first = _Site(folder, answer)
    try:
        code, _said = _fetched(f"{first.url}/shop.git", make_credential(hosts="127.0.0.1:*"), folder)
    finally:
        first.close()
        other.close()
    assert code
    assert first.logins, "it logged in to its own host"
    assert not other.asked, "git has asked the alternate"
    return "the login went to the address alone"


@attack("login", "git's questions about other hosts, put to the program that answers them")
def other_questions(folder: Path) -> str:
    credential = make_credential(username="me", password="s3cret-token", hosts="git.example.com")
    mirror = Mirror("https://git.example.com/a.git", credential, folder)

    def answer(question: str) -> str:
        command = [mirror.env["GIT_ASKPASS"], question]
        return subprocess.run(command, env=mirror.env, capture_output=True, text=True, check=False).stdout.strip()

    assert answer("Username for 'https://git.example.com': ") == "me"
    assert answer("Password for 'https://me@git.example.com': ") == "s3cret-token"
    others = [
        "Password for 'https://me@thief.example.com': ",
        "Password for 'https://git.example.com@thief.example.com': ",
        "Password for 'https://me@git.example.com:8443': ",
        "Password for 'https://me@git.example.com.thief.example.com': ",
        "Password for 'http://me@git.example.com': ",
        "Username for 'https://thief.example.com': ",
        "me@thief.example.com's password: ",
        "Enter passphrase for key '/root/.ssh/id_ed25519': ",
        "Are you sure you want to continue connecting (yes/no)? ",
    ]
    assert not [question for question in others if answer(question)]
    assert "s3cret-token" not in repr(mirror.env), "the token is in the environment"
    return f"{len(others)} questions stay open"


@attack("login", "the netrc of the platform's user, asked for by a git server without a credential")
def netrc(folder: Path) -> str:
    site = _Site(folder, lambda _path, _login: (401, _ASKS, b""))
    home = folder / "home"
    home.mkdir()
    (home / ".netrc").write_text("machine 127.0.0.1 login platform password s3cret-netrc\n")
    try:
        with _environment(HOME=str(home)):
            code, said = _fetched(f"{site.url}/shop.git", None, folder)
    finally:
        site.close()
    assert code
    assert site.asked
    assert not site.logins, site.logins
    return said


@attack("login", "the keys and the agent of the platform's user, asked for by a git server without a credential")
def own_keys(folder: Path) -> str:
    sshd, socket = OpenSSHServer(), str(folder / "agent")
    agent = subprocess.Popen(
        [program("ssh-agent", "openssh-client"), "-D", "-a", socket],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: Path(socket).exists(), "the agent")
        repository = GitRepository(folder / "repository")
        with _environment(SSH_AUTH_SOCK=socket):
            subprocess.run(["ssh-add", "-q", sshd.folder / "login_key"], check=True)
            url = f"ssh://{sshd.username}@{sshd.host}:{sshd.port}{repository.path}"
            code, said = _fetched(url, None, folder)
            with WorkFolder("git") as work:
                command = shlex.split(Mirror(url, None, work.path).env["GIT_SSH_COMMAND"])
            asked = subprocess.run([*command, "-G", sshd.host], capture_output=True, text=True, check=True).stdout
        log = sshd.log
    finally:
        stop_process(agent)
        sshd.close()
    assert code, "the agent's key let git in"
    assert "Accepted" not in log
    options = dict(line.split(" ", 1) for line in asked.splitlines() if " " in line)
    wanted = {"identityfile": "none", "identityagent": "none", "identitiesonly": "yes", "gssapiauthentication": "no"}
    wanted |= {"hostbasedauthentication": "no", "forwardagent": "no", "pubkeyauthentication": "false"}
    assert {name: options.get(name) for name in wanted} == wanted
    assert [line for line in asked.splitlines() if line.startswith("identityfile")] == ["identityfile none"]
    return said


@attack("repository", "filters, submodules and a rewritten address in configurations that are not deployer's")
def foreign_configuration(folder: Path) -> str:
    repository, mark, home = GitRepository(folder / "repository"), folder / "mark", folder / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        f'[filter "lfs"]\n\tsmudge = touch {mark}; cat\n\trequired = true\n'
        f'[url "{folder}/thief"]\n\tinsteadOf = {repository.path}\n[core]\n\tsshCommand = touch {mark}\n'
    )
    repository.commit(
        {
            ".gitattributes": "*.bin filter=lfs\n",
            "a.bin": "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n",
            ".gitmodules": f'[submodule "a"]\n\tpath = a\n\turl = ext::sh -c "touch {mark}"\n',
        }
    )
    tree = folder / "tree"
    tree.mkdir()
    with _environment(HOME=str(home)), WorkFolder("git") as work:
        mirror = Mirror(repository.url, None, work.path)
        assert mirror.read(mirror.fetching(), 60)[0] == 0
        # What a build that got out could have left in the mirror.
        planted = f'[url "{folder}/thief"]\n\tinsteadOf = {repository.path}\n[core]\n\tfsmonitor = touch {mark}\n'
        (mirror.path / "config").write_text(f"{(mirror.path / 'config').read_text()}{planted}")
        (mirror.path / "objects" / "info" / "alternates").write_text(f"{folder}/thief\n")
        head = repository.commit({"b": "1"})
        code, _out, said = mirror.read(mirror.fetching(), 60)
        assert code == 0, said
        assert mirror.resolve("main") == head
        code, _out, said = mirror.read(git.export(str(mirror.path), head, str(tree), mirror.env), 60)
        assert code == 0, said
    assert not mark.exists()
    assert (tree / "a.bin").read_text().startswith("version")
    return "none of them is read"


# --- what is kept ---------------------------------------------------------------------------------------

#: Command lines with a secret, which must not be kept, and a word that must.
SHAPES = (
    (["--password=HUSH", "--port", "8080"], "8080"),
    (["--password", "HUSH", "-p", "8080"], "-p 8080"),
    (["--db-password=HUSH with spaces HUSH"], "--db-password="),
    (["--url", "postgres://shop:HUSH@db/shop"], "@db/shop"),
    (["--token", "HUSH", "--api-key=HUSH", "--secret", "HUSH"], "--api-key"),
    (["-H", "Authorization: Bearer HUSH"], "Authorization:"),
    (["-Dspring.datasource.password=HUSH", "-Djavax.net.ssl.keyStorePassword=HUSH"], "keyStorePassword"),
    (["mysql", "-pHUSH", "-P", "3306"], "3306"),
    (["redis-cli", "-a", "HUSH"], "redis-cli"),
    (["curl", "-u", "shop:HUSH"], "-u shop:"),
    (["DB_PASSWORD=HUSH", "GITHUB_TOKEN=HUSH", "AWS_SECRET_ACCESS_KEY=HUSH"], "GITHUB_TOKEN="),
    (["jdbc:mysql://db/shop?user=shop&password=HUSH&ssl=true"], "ssl=true"),
    (["sh -c 'sshpass -p HUSH ssh -p 22 db'"], "22"),
)


@attack("server", "passwords of many shapes in the arguments of the application")
def passwords_in_arguments(folder: Path) -> str:
    secret, sshd = f"s3cret{secrets.token_hex(6)}", OpenSSHServer()
    running = []
    try:
        script = folder / "restart.sh"
        script.write_text("exit 0\n")
        project = make_project(deploy_script_path=str(script), deploy_path="", process_name="shop-of-shapes.py")
        project.variables.create(name="KEY", value=f"known-{secret}-{'x' * 40}", is_secret=True)
        server = make_server(sshd)
        app = folder / "shop-of-shapes.py"
        app.write_text("import time\ntime.sleep(600)\n")
        known = f"{'a' * 240}known-{secret}-{'x' * 40}"  # what is kept ends in the middle of it
        lines = [*([word.replace("HUSH", secret) for word in words] for words, _kept in SHAPES), [known]]
        running = [subprocess.Popen(["python3", str(app), *words], cwd="/") for words in lines]
        deployment = make_deployment(project, make_group(server), deployment_type="restart_only")
        carry_out(deployment.pk)
        refresh(project)
    finally:
        kill_all([process.pid for process in running])
        for process in running:
            process.wait()
        sshd.close()
    target = deployment.targets.get()
    sighting = Sighting.objects.get(project=project)
    page = _html(_client().get(reverse("deployment", args=[deployment.pk])))
    log = "\n".join(deployment.log_lines.values_list("content", flat=True))
    stored = [repr(target.proof), repr(sighting.processes), target.error, target.evidence, log, page]
    kept = [text[max(0, at - 60) : at + 30] for text in stored if (at := text.find(secret[:8])) >= 0]
    assert not kept, kept
    for _words, told in SHAPES:
        assert told in repr(sighting.processes), told
    return f"{len(lines)} command lines, in the proof, the sighting, the log and the page"


# --- canaries -------------------------------------------------------------------------------------------


def _sealed(private_key: str, passphrase: str) -> str:
    key: Any = serialization.load_ssh_private_key(private_key.encode(), None)
    return str(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(passphrase.encode()),
        ).decode()
    )


class _Sampler(threading.Thread):
    """Looks at all processes and at the files that others may read, again and again, for ``canaries``."""

    def __init__(self, canaries: dict[str, str], folders: list[Path]) -> None:
        super().__init__(daemon=True)
        self._canaries = {name: value.encode() for name, value in canaries.items()}
        self._folders = folders
        self._stop_it = threading.Event()
        self.found: set[str] = set()
        self.expected: set[str] = set()
        self.rounds = 0

    def run(self) -> None:
        while not self._stop_it.wait(0.02):
            self.rounds += 1
            for process in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    self._note(f"arguments of {process.name}", (process / "cmdline").read_bytes())
                    environment = (process / "environ").read_bytes()
                    own = b"DEPLOYER_RUN=" in environment  # the project's own scripts, and what they start
                    self._note(f"environment of {process.name}", environment, but="variable" if own else "")
            for folder in self._folders:
                for path in folder.rglob("*"):
                    with contextlib.suppress(OSError):
                        if path.is_file() and path.stat().st_mode & 0o044:
                            self._note(str(path), path.read_bytes())

    def _note(self, where: str, data: bytes, but: str = "") -> None:
        for name, value in self._canaries.items():
            if value in data:
                expected = but and name.startswith(but)
                (self.expected if expected else self.found).add(f"{name} in {where}")

    def stop(self) -> None:
        self._stop_it.set()
        self.join()


def _database() -> str:
    """Every value of every table, as it is stored."""
    with connection.cursor() as cursor:
        told = []
        for table in connection.introspection.table_names(cursor):
            cursor.execute("SELECT * FROM " + connection.ops.quote_name(table))  # noqa: S608 (a table's own name)
            told.append(repr(cursor.fetchall()))
        return "\n".join(told)


def _queue(client: Redis) -> bytes:
    """Everything on the queue, unpacked where it is packed."""
    reads: dict[Any, Callable[[Any], Any]] = {
        b"hash": client.hgetall,
        b"string": client.get,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1),
        b"stream": client.xrange,
    }
    told = []
    for key in client.keys("*"):
        value: Any = reads[client.type(key)](key)
        told.append(repr((key, value)).encode())
        for part in value.values() if isinstance(value, dict) else []:
            with contextlib.suppress(zlib.error):
                told.append(zlib.decompress(part))
    return b"\n".join(told)


@attack("login", "canaries looked for everywhere during a restart and a full deployment", short=False)
def canaries(folder: Path) -> str:
    mark = secrets.token_hex(6)
    values = {name: f"canary-{name.replace(' ', '-')}-{mark}" for name in ("passphrase", "password", "git password")}
    values |= {"variable": f"canary-variable-{mark}", "variable of the build": f"canary-build-{mark}"}
    sshd = OpenSSHServer()
    queue = QueueServer(settings.QUEUE_SOCKET) if not Path(settings.QUEUE_SOCKET).exists() else None
    client = Redis.from_url(f"unix://{settings.QUEUE_SOCKET}")
    worker = None
    thief = StrictServer(["password"])
    sampler = None
    try:
        sealed = _sealed(sshd.private_key, values["passphrase"])
        values |= {"key": "".join(sealed.splitlines()[2:3]), "opened key": sshd.private_key.splitlines()[2]}
        login = make_credential(sshd, private_key=sealed, passphrase=values["passphrase"], password=values["password"])
        token = make_credential(password=values["git password"], hosts="127.0.0.1:*")
        repository = GitRepository(folder / "repository")
        script = folder / "restart.sh"
        script.write_text('echo "says $CANARY"; for n in 1 2 3 4 5; do sleep 0.2; done; exit 0\n')
        url = f"ssh://{sshd.username}@{sshd.host}:{sshd.port}{repository.path}"
        common = {"deploy_path": str(folder / "shop"), "deploy_script_path": str(script)}
        common["build_script"] = 'echo "builds with $BUILT"; sleep 1'
        project = make_project(git_url=url, git_credential=login, **common)
        private = make_project(git_url=f"ssh://127.0.0.1:{thief.port}/a.git", git_credential=token, **common)
        for each in (project, private):
            each.variables.create(name="CANARY", value=values["variable"], is_secret=True, scope="deploy")
            each.variables.create(name="BUILT", value=values["variable of the build"], is_secret=True, scope="build")
        group = make_group(make_server(sshd, credential=login))
        # The key itself lies beside the SSH server, as the part of the test that it is.
        sampler = _Sampler(
            {name: value for name, value in values.items() if name != "opened key"},
            [settings.DATA_DIR, sshd.home, folder],
        )
        sampler.start()
        worker = Worker(queue or _Known(client))  # type: ignore[arg-type]  # it needs its client alone
        launched = [
            make_deployment(project, group, deployment_type="restart_only"),
            make_deployment(private, group),
        ]
        _wait_for(launched)
        launched.append(make_deployment(project, group))
        _wait_for(launched)
        sampler.stop()
        kept = {"database": _database().encode(), "queue": _queue(client), "log of the worker": worker.log.encode()}
        user = make_user()
        browser = Client()
        browser.force_login(user)
        bearer = ApiToken(name="ci", user=user)
        api = Client(headers={"authorization": f"Bearer {bearer.renew()}"})
        bearer.save()
        pages = [
            reverse("credentials"),
            reverse("credential_edit", args=[login.pk]),
            reverse("servers"),
            reverse("home"),
        ]
        for it in launched:
            pages += [it.get_absolute_url(), reverse("deployment_log", args=[it.pk])]
            for address in (f"/api/v1/deployments/{it.pk}", f"/api/v1/deployments/{it.pk}/log"):
                kept[address] = api.get(address).content
        pages += [reverse("project", args=[project.pk]), reverse("project_yaml", args=[project.pk])]
        kept |= {address: _whole(browser.get(address, follow=True)) for address in pages}
        for path in [*settings.DATA_DIR.rglob("*"), *sshd.home.rglob("*")]:
            if path.is_file() and not path.is_socket():
                kept[str(path)] = path.read_bytes()
    finally:
        if sampler is not None and sampler.is_alive():
            sampler.stop()
        if worker is not None:
            worker.stop()
        if queue is not None:
            queue.close()
        thief.close()
        sshd.close()
    states = [Deployment.objects.get(pk=it.pk).status for it in launched]
    assert states == ["success", "failed", "success"], states
    assert [login for login in thief.logins if values["git password"] in login.answers], "the git login was tried"
    log = kept[reverse("deployment_log", args=[launched[0].pk])].decode()
    assert "says ••••••" in log
    forms = {
        f"{name} ({kind})": form
        for name, value in values.items()
        for kind, form in (("plain", value.encode()), ("base64", base64.b64encode(value.encode())))
    }
    hits = {f"{name} in {where}" for where, data in kept.items() for name, form in forms.items() if form in data}
    assert sampler.expected, "the script's own environment was not looked at"
    assert not hits | sampler.found, sorted(hits | sampler.found)
    assert Target.objects.filter(deployment__in=launched).exists()
    return f"{len(values)} canaries, {len(kept)} places and {sampler.rounds} looks at all processes: 0 hits"


class _Known:
    """A queue server that somebody else has started."""

    def __init__(self, client: Redis) -> None:
        self.client = client


def _wait_for(launched: list[Deployment]) -> None:
    def ended() -> bool:
        connection.close()  # what the worker has written since is seen by a new one
        return not Deployment.objects.filter(pk__in=[it.pk for it in launched], finished_at=None).exists()

    wait_until(ended, "the deployments to end")


def _whole(answer: Any) -> bytes:
    return b"".join(answer)
