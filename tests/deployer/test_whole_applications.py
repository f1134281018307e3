"""Whole applications in the shape of public repositories, deployed by what the guided form proposes, and no more."""

import json
import os
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from deployer.engine.routines import carry_out
from deployer.launching.again import launch_rollback
from deployer.models import Deployment, Target
from projects.commands.proof import Proof
from projects.models import Project
from servers.models import ServerGroup
from tests.factories import make_deployment, make_group, make_server, make_user
from tests.parts.git import GitRepository
from tests.parts.programs import free_port, kill_all
from tests.parts.sshd import OpenSSHServer
from tests.proofs import parts

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]


class Site:
    """A server, and a project that somebody has made for it by the guided form."""

    def __init__(self, sshd: OpenSSHServer, repository: GitRepository, client: Client) -> None:
        self.sshd, self.repository, self.client, self.port = sshd, repository, client, free_port()
        self.group: ServerGroup = make_group(make_server(sshd, name="web-1"))
        self.project: Any = None
        self.reasons: tuple[str, ...] = ()

    def made(self, **corrected: Any) -> Project:
        """The project as the form proposes it, with its folder, the address of the application and ``corrected``."""
        self.client.force_login(make_user())
        first = {"name": "shop", "environment": "production", "git_url": self.repository.url, "deploy_path": "~/shop"}
        answer = self.client.post(reverse("project_add_look"), first)
        form, self.reasons = answer.context["form"], answer.context["found"].reasons
        proposed = {name: form[name].value() for name in form.fields}
        values = proposed | {"check_url": f"http://127.0.0.1:{self.port}/", "names_release": True} | corrected
        sent = {name: value for name, value in values.items() if value not in (None, False)}
        made = self.client.post(reverse("project_add"), sent)
        assert made.status_code == 302, made.context["form"].errors
        project = self.project = Project.objects.get()
        return project

    def deployed(self, **values: Any) -> Deployment:
        return ended(make_deployment(self.project, self.group, **values))

    def answer(self) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=5) as response:
            return json.load(response)

    @property
    def shop(self) -> Path:
        return self.sshd.home / "shop"

    @property
    def live(self) -> str:
        return (self.shop / "current").readlink().name


def ended(deployment: Deployment) -> Deployment:
    assert carry_out(deployment.pk)
    return Deployment.objects.get(pk=deployment.pk)


def target(deployment: Deployment) -> Target:
    return deployment.targets.get()


def ends(deployment: Deployment) -> tuple[str, str]:
    """How it ended, and how its server's service did."""
    return deployment.status, target(deployment).proof.get("verdict", "")


def story(deployment: Deployment) -> str:
    """What a person would read where it ended otherwise."""
    lines = deployment.log_lines.values_list("content", flat=True)
    return "\n".join([deployment.error_message, target(deployment).error, *lines])


@pytest.fixture
def site(make_sshd: Callable[..., OpenSSHServer], git_repo: GitRepository, client: Client) -> Iterator[Site]:
    it = Site(make_sshd(), git_repo, client)
    git_repo.git("rm", "--quiet", "index.html")
    yield it
    kill_all(it.sshd.processes())


# --- Django -------------------------------------------------------------------------------------------

MANAGE = """\
#!/usr/bin/env python
import os
import sys


def main():
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
"""
SETTINGS = """\
import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = os.environ["SECRET_KEY"]
DEBUG = os.environ.get("DEBUG") == "1"
ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "127.0.0.1").split(",")
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.staticfiles", "notes"]
MIDDLEWARE = ["whitenoise.middleware.WhiteNoiseMiddleware"]
ROOT_URLCONF = "mysite.urls"
WSGI_APPLICATION = "mysite.wsgi.application"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
"""
URLS = 'from django.urls import path\n\nfrom notes.views import index\n\nurlpatterns = [path("", index)]\n'
WSGI = """\
import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
application = get_wsgi_application()
"""
MODELS = "from django.db import models\n\n\nclass Note(models.Model):\n    text = models.TextField()\n"
VIEWS = """\
import os

from django.http import JsonResponse

from notes.models import Note

VERSION = {version}


def index(request):
    Note.objects.get_or_create(text="kept")
    columns = sorted(field.column for field in Note._meta.concrete_fields)
    notes = [*Note.objects.values_list("pk", "text")]
    answer = JsonResponse({{"version": VERSION, "columns": columns, "notes": notes}})
    answer["X-Release"] = os.environ["DEPLOY_RELEASE"]
    return answer
"""
MIGRATION = """\
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [{after}]
    operations = [{does}]
"""
FIRST = (
    """migrations.CreateModel("Note", [("id", models.BigAutoField(primary_key=True)), ("text", models.TextField())])"""
)
SECOND = """migrations.AddField("note", "mood", models.CharField(max_length=9, default="calm"))"""
BROKEN = """migrations.AddField("note", "x", models.TextField(default="")), migrations.RunSQL("SELECT nothing")"""


def django_files() -> dict[str, str]:
    return {
        "manage.py": MANAGE,
        "requirements.txt": "Django>=5.2,<6\ngunicorn\nwhitenoise\n",
        ".gitignore": "__pycache__/\ndb.sqlite3\nstaticfiles/\n.venv/\n",
        "mysite/__init__.py": "",
        "mysite/settings.py": SETTINGS,
        "mysite/urls.py": URLS,
        "mysite/wsgi.py": WSGI,
        "notes/__init__.py": "",
        "notes/models.py": MODELS,
        "notes/views.py": VIEWS.format(version=1),
        "notes/static/notes.css": "body {}\n",
        "notes/migrations/__init__.py": "",
        "notes/migrations/0001_initial.py": MIGRATION.format(after="", does=FIRST),
    }


@pytest.fixture
def django_site(site: Site) -> Site:
    """A server whose pip has what the application needs without an index."""
    try:
        config = f"[global]\nno-index = true\nfind-links = {parts.wheels()}\n"
    except parts.MissingError as missing:
        pytest.fail(str(missing))
    (site.sshd.home / ".config" / "pip").mkdir(parents=True)
    (site.sshd.home / ".config" / "pip" / "pip.conf").write_text(config)
    site.repository.commit(django_files())
    return site


@pytest.mark.long
def test_django_is_deployed_migrated_and_taken_back(django_site: Site) -> None:
    site = django_site
    project = site.made()
    # What the form says beforehand: SQLite's file lies in shared/. The settings ask for the key.
    assert "touch db.sqlite3" in " ".join(site.reasons)
    (site.shop / "shared").mkdir(parents=True)
    (site.shop / "shared" / "db.sqlite3").touch()
    project.variables.create(name="SECRET_KEY", value="not a secret", is_secret=True)
    project.variables.create(name="PORT", value=str(site.port))
    assert {step.name for step in project.steps.all()} == {"virtual environment", "migrate", "static files"}
    assert project.all_services() == [("process", "~/shop/shared/shop.pid")]

    first = site.deployed()
    assert first.status == "success", story(first)
    assert site.answer() == {"version": 1, "columns": ["id", "text"], "notes": [[1, "kept"]]}
    assert (site.shop / "current" / "staticfiles" / "notes.css").exists()
    told = Proof.from_json(target(first).proof).in_words
    assert "was started: pid " in told
    assert f"“python3 .venv/bin/gunicorn mysite.wsgi” in {site.shop}/releases/{first.release} " in told

    # The next one brings a migration; the note of the step says how it is taken back.
    project.steps.filter(name="migrate").update(undone_by=".venv/bin/python manage.py migrate notes 0001\n")
    mood = '    mood = models.CharField(max_length=9, default="calm")\n'
    migration = MIGRATION.format(after='("notes", "0001_initial")', does=SECOND)
    site.repository.commit(
        {
            "notes/views.py": VIEWS.format(version=2),
            "notes/models.py": MODELS + mood,
            "notes/migrations/0002_mood.py": migration,
        }
    )
    second = site.deployed()
    assert ends(second) == ("success", "replaced"), story(second)
    assert site.answer() == {"version": 2, "columns": ["id", "mood", "text"], "notes": [[1, "kept"]]}
    pid = (site.shop / "shared" / "shop.pid").read_text()

    broken = MIGRATION.format(after='("notes", "0002_mood")', does=BROKEN)
    site.repository.commit({"notes/views.py": VIEWS.format(version=3), "notes/migrations/0003_broken.py": broken})
    third = site.deployed()
    assert (third.status, target(third).status) == ("failed", "skipped")
    assert "Step “Before all: migrate” ended with status 1" in third.error_message
    assert (site.live, (site.shop / "shared" / "shop.pid").read_text()) == (str(second.release), pid)
    assert site.answer()["version"] == 2

    back = ended(launch_rollback(second, created_by=None, trigger="cli"))
    assert ends(back) == ("success", "replaced"), story(back)
    assert site.live == str(first.release)
    assert site.answer() == {"version": 1, "columns": ["id", "text"], "notes": [[1, "kept"]]}


# --- Node under pm2 -----------------------------------------------------------------------------------

SERVER = """\
const express = require("express"), fs = require("fs"), ms = require("ms/package.json");
const file = __dirname + "/config/local.json";
const local = fs.existsSync(file) ? JSON.parse(fs.readFileSync(file)) : {};
express().get("/", (request, response) => {
  response.setHeader("X-Release", process.env.DEPLOY_RELEASE);
  response.json({ version: VERSION, ms: ms.version, local, color: process.env.COLOR });
}).listen(process.env.PORT, "127.0.0.1");
"""
ECOSYSTEM = 'module.exports = { apps: [{ name: "shop-web", script: "server.js", instances: 1 }] };\n'


def node_files(version: int) -> dict[str, str]:
    package, lock = parts.npm_packages()[0][version - 1]
    server = SERVER.replace("VERSION", str(version))
    return {"package.json": package, "package-lock.json": lock, "server.js": server, ".gitignore": "node_modules/\n"}


@pytest.fixture
def node_site(site: Site) -> Iterator[Site]:
    """A server with pm2, whose npm needs nobody."""
    try:
        pm2, (_states, settings) = parts.pm2(), parts.npm_packages()
    except parts.MissingError as missing:
        pytest.fail(str(missing))
    home = site.sshd.home
    (home / "bin").mkdir(exist_ok=True)
    (home / "bin" / "pm2").symlink_to(pm2)
    (home / ".npmrc").write_text(settings)
    site.repository.commit(node_files(1))
    yield site
    kill_all(site.sshd.processes())


def under_pm2(site: Site, **corrected: Any) -> Project:
    """The project with the packages of each release installed where it runs."""
    project = site.made(auto_install=False, ready_steps=["npm"], **corrected)
    project.variables.create(name="PORT", value=str(site.port))
    project.variables.create(name="COLOR", value="red")
    return project


@pytest.mark.long
def test_a_node_application_is_started_and_replaced_by_pm2_itself(node_site: Site) -> None:
    site = node_site
    site.repository.commit({"ecosystem.config.js": ECOSYSTEM})
    project = under_pm2(site)
    assert project.all_services() == [("pm2", "shop-web")]
    assert (project.deploy_script_path, project.restart_script) == ("", "")
    assert project.own_restart == "pm2 reload shop-web"

    first = site.deployed()
    assert first.status == "success", story(first)
    assert site.answer() == {"version": 1, "ms": "2.1.2", "local": {}, "color": "red"}

    site.repository.commit(node_files(2))
    project.variables.filter(name="COLOR").update(value="blue")
    second = site.deployed()
    assert ends(second) == ("success", "replaced"), story(second)
    assert site.answer() == {"version": 2, "ms": "2.1.3", "local": {}, "color": "blue"}
    assert not (site.shop / "current" / "node_modules" / ".package-lock.json").is_symlink()

    project.config_files.create(
        path="config/local.json",
        content='{"color": {{ COLOR|json }}, "server": {{ DEPLOY_SERVER|json }}}\n',
        is_template=True,
    )
    third = site.deployed(deployment_type="restart_only")
    assert ends(third) == ("success", "replaced"), story(third)
    assert site.answer()["local"] == {"color": "blue", "server": "web-1"}

    back = ended(launch_rollback(second, created_by=None, trigger="cli"))
    assert ends(back) == ("success", "replaced"), story(back)
    assert (site.answer()["version"], site.answer()["ms"]) == (1, "2.1.2")


def pm2(site: Site, *words: str) -> None:
    environment = {"HOME": str(site.sshd.home), "PATH": os.environ["PATH"]}
    environment |= dict([site.sshd.marker.split("=", 1)])
    folder = site.shop / "current"
    subprocess.run(
        [site.sshd.home / "bin" / "pm2", *words], cwd=folder, env=environment, check=True, capture_output=True
    )


def test_an_app_that_pm2_keeps_in_an_old_release_is_moved_or_told_of(node_site: Site) -> None:
    site = node_site
    under_pm2(site, service_kind="pm2", service_name="shop", restart_script="")
    first = site.deployed()
    assert first.status == "success", story(first)
    assert site.answer()["version"] == 1, "its package.json says how it is started"

    # Somebody starts it by hand: pm2 keeps the folder that current leads to.
    pm2(site, "delete", "shop")
    pm2(site, "start", "server.js", "--name", "shop")
    site.repository.commit(node_files(2))
    second = site.deployed()
    assert second.status == "failed"
    assert f"pm2 would start it in {site.shop}/releases/{first.release} again" in story(second)

    # Where the repository has its whole configuration, it is put right.
    site.repository.commit({"ecosystem.config.js": ECOSYSTEM.replace("shop-web", "shop")})
    third = site.deployed()
    assert ends(third) == ("success", "replaced"), story(third)
    assert site.answer()["version"] == 2
