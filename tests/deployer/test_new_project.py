"""A new project by the guided form: the address is tried for real, and what is there is proposed."""

import json
import re
import shutil
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse

from deployer.repositories.mirror import look_at
from projects.commands import git as source
from projects.guess.examples import example_script
from projects.guess.proposal import TELLING, Guess
from projects.models import Project
from projects.ready_steps import READY_STEPS
from servers.errors import NotReadyError
from tests.factories import make_credential, make_member
from tests.parts.git import GitRepository
from tests.parts.html import tight
from tests.parts.programs import free_port
from tests.parts.sshd import OpenSSHServer

pytestmark = pytest.mark.django_db

PACKAGE = json.dumps({"scripts": {"build": "vite build"}, "devDependencies": {"vite": "5"}})


@pytest.fixture
def maria(client: Client) -> Client:
    """Somebody who may make projects and use all credentials for them, and gives no rights."""
    client.force_login(make_member("maintainer", username="maria"))
    return client


def first_step(git_url: str, **values: object) -> dict[str, Any]:
    return {"name": "Web shop", "environment": "staging", "git_url": git_url} | values


def look(client: Client, git_url: str, **values: object) -> str:
    answer = client.post(reverse("project_add_look"), first_step(git_url, **values))
    assert answer.status_code == 200
    return tight(answer.content.decode())


def over_ssh(sshd: OpenSSHServer, repository: GitRepository) -> str:
    return f"ssh://{sshd.username}@{sshd.host}:{sshd.port}{repository.path}"


def test_the_branches_are_listed_and_what_is_in_the_repository_is_proposed(
    maria: Client, git_repo: GitRepository
) -> None:
    git_repo.commit({"package.json": PACKAGE, "package-lock.json": "{}"})
    git_repo.branch("feature/cart")
    git_repo.switch("main")
    html = look(maria, git_repo.url)
    assert "<option selected>main</option> <option>feature/cart</option>" in html
    script = "# The web server serves $DEPLOY_PATH/current: no process has to be replaced."
    for proposal in (
        "npm run build",
        "npm ci",
        'value="dist"',
        'value="/srv/web-shop"',
        f"set -euo pipefail {script}",
    ):
        assert proposal in html
    assert "/srv/web-shop/restart.sh" not in html, "no script has to lie on the servers"
    assert not Project.objects.exists()
    values = first_step(git_repo.url) | {
        "default_branch": "feature/cart",
        "project_type": "frontend",
        "auto_install": "on",
        "build_script": "npm run build\r\nls",
        "output_dir": "dist",
        "deploy_path": "/srv/web-shop",
        "deploy_script_path": "/srv/web-shop/restart.sh",
    }
    answer = maria.post(reverse("project_add"), values)
    project = Project.objects.get()
    assert answer["Location"] == reverse("project", args=[project.pk])
    assert (project.name, project.environment, project.default_branch) == ("Web shop", "staging", "feature/cart")
    assert project.build_script == "npm run build\nls"


def test_another_branch_is_looked_at_when_it_is_asked_for(maria: Client, git_repo: GitRepository) -> None:
    git_repo.branch("rewrite")
    git_repo.commit({"go.mod": "module example.com/shop\n"})
    git_repo.switch("main")
    assert "index.html" in look(maria, git_repo.url)
    html = look(maria, git_repo.url, default_branch="rewrite", deploy_path="~/shop")
    assert "go build -o dist/shop ." in html
    assert 'pid_file="$DEPLOY_PATH/shared/web-shop.pid"' in unescape(html)
    assert 'value="~/shop/shared/web-shop.pid"' in html


def test_ticked_steps_become_the_project_s_own(maria: Client, git_repo: GitRepository) -> None:
    manage = 'os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")'
    git_repo.commit({"manage.py": manage, "requirements.txt": "Django\nwhitenoise\n"})
    html = look(maria, git_repo.url)
    ticked = re.findall(r'name="ready_steps" value="([a-z-]+)"[^>]* checked', html)
    assert ticked == ["virtualenv", "django", "django-static"]
    values = first_step(git_repo.url) | SECOND_STEP | {"deploy_script_path": "", "restart_script": "true"}
    assert maria.post(reverse("project_add"), values | {"ready_steps": [*ticked, "maintenance"]}).status_code == 302
    rows = [(step.moment, step.name) for step in Project.objects.get().steps.in_order()]
    assert {*rows} == {
        *(("prepare", "virtual environment"), ("prepare", "static files")),
        *(("before_all", "migrate"), ("before_all", "maintenance page"), ("after_all", "end of maintenance")),
    }
    assert [name for moment, name in rows if moment == "before_all"] == ["migrate", "maintenance page"]
    refused = maria.post(reverse("project_add"), values | {"ready_steps": ["nothing"]})
    assert "nothing is not one of the available choices" in tight(refused.content.decode())


def test_all_ready_made_steps_can_be_ticked_together(maria: Client) -> None:
    keys = [ready.key for ready in READY_STEPS]
    values = first_step("") | SECOND_STEP | {"ready_steps": keys}
    assert maria.post(reverse("project_add"), values).status_code == 302
    steps = Project.objects.get().steps.all()
    assert len(steps) == sum(len(ready.steps) for ready in READY_STEPS)
    for step in steps:
        step.full_clean()


def test_the_example_makes_place_for_the_restart_of_a_kind_and_a_script_of_their_own_stays(maria: Client) -> None:
    found = Guess(project_type="backend", start="node server.js")
    typed = first_step("") | SECOND_STEP | {"deploy_script_path": "", "start": found.start, "ready_steps": ["npm"]}

    def kept(script: str, take: str) -> bool:
        page = maria.post(reverse("project_add_find"), typed | {"restart_script": script, "take": take})
        html = tight(page.content.decode())
        assert re.search(r'value="npm"[^>]* checked', html), "the ticked steps come back"
        return str(script.splitlines()[-1]) in unescape(html.partition('name="restart_script"')[2].partition("<")[0])

    example = example_script(found, "Web shop")
    assert not kept(example, "pm2 shop")
    assert kept(example, "port 8000")
    assert kept("systemctl restart shop", "pm2 shop")


def test_a_fragment_and_a_plain_page_say_the_same(maria: Client, git_repo: GitRepository) -> None:
    answer = maria.post(reverse("project_add_look"), first_step(git_repo.url), headers={"HX-Request": "true"})
    fragment = tight(answer.content.decode())
    assert fragment.strip().startswith('<div id="new-project"')
    assert fragment.split("csrfmiddlewaretoken")[0].strip() in look(maria, git_repo.url)


def test_what_is_wrong_in_the_second_step_is_said_and_nothing_that_was_typed_is_lost(maria: Client) -> None:
    values = first_step("https://git.example.com/a.git") | {
        "default_branch": "v2",
        "branches": ["main", "v2"],
        "project_type": "java",
        "deploy_path": "srv/shop",
        "deploy_script_path": "",
        "build_script": "mvn package",
    }
    html = tight(maria.post(reverse("project_add"), values).content.decode())
    assert "must be an absolute path" in html
    assert "This field is required" in html
    assert "<option>main</option> <option selected>v2</option>" in html
    assert "mvn package" in html
    assert not Project.objects.exists()


def test_a_project_without_a_repository_needs_no_git(maria: Client) -> None:
    html = look(maria, "")
    assert "packages built elsewhere" in html
    values = first_step("") | {
        "default_branch": "main",
        "project_type": "other",
        "deploy_script_path": "/srv/restart.sh",
    }
    assert maria.post(reverse("project_add"), values).status_code == 302
    assert Project.objects.get().git_url == ""


SECOND_STEP = {
    "default_branch": "main",
    "project_type": "backend",
    "deploy_path": "/srv/shop",
    "deploy_script_path": "/srv/restart.sh",
}


@pytest.mark.parametrize(
    ("values", "checks"),
    [
        ({}, []),
        ({"check_url": "http://127.0.0.1:8080/up"}, [("http", "http://127.0.0.1:8080/up", "", "")]),
        (
            {"check_url": "https://127.0.0.1/", "names_release": "on"},
            [("http", "https://127.0.0.1/", "", "X-Release: {release}")],
        ),
    ],
)
def test_a_health_check_that_expects_the_release_is_there_only_if_it_was_ticked(
    maria: Client, values: dict[str, str], checks: list[tuple[str, ...]]
) -> None:
    assert maria.post(reverse("project_add"), first_step("") | SECOND_STEP | values).status_code == 302
    rows = Project.objects.get().health_checks.values_list("kind", "target", "expect", "expect_header")
    assert list(rows) == checks


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"check_url": "8080"}, "An HTTP check needs a URL"),
        ({"check_url": "http://a/\x01"}, "control characters"),
        ({"names_release": "on"}, "Enter the address that names the release."),
        ({"check_url": "http://a/", "names_release": "on", "deploy_path": ""}, "Without a deploy path"),
    ],
)
def test_a_health_check_that_cannot_work_is_refused_with_the_project(
    maria: Client, values: dict[str, str], why: str
) -> None:
    html = tight(maria.post(reverse("project_add"), first_step("") | SECOND_STEP | values).content.decode())
    assert why in html
    assert not Project.objects.exists()


def test_how_the_application_says_its_release_is_shown_for_what_was_found(
    maria: Client, git_repo: GitRepository
) -> None:
    git_repo.commit({"package.json": PACKAGE})
    html = look(maria, git_repo.url, check_url="http://127.0.0.1/")
    assert "add_header X-Release $realpath_root always;" in html
    assert 'value="http://127.0.0.1/"' in html, "what was typed before stays"


def test_a_private_repository_is_read_with_the_chosen_key(
    maria: Client, sshd: OpenSSHServer, git_repo: GitRepository
) -> None:
    address = over_ssh(sshd, git_repo)
    refused = look(maria, address)
    assert "the git server refuses the login, or asks for one" in refused
    assert "Choose a credential that may read the repository" in refused
    html = look(maria, address, git_credential=make_credential(sshd).pk)
    assert "<option selected>main</option>" in html
    assert "BEGIN OPENSSH" not in html


def test_what_went_wrong_on_the_way_is_a_sentence_with_a_remedy(
    sshd: OpenSSHServer, git_repo: GitRepository, tmp_path: Path
) -> None:
    key = make_credential(sshd)
    empty = GitRepository(tmp_path / "empty")
    shutil.rmtree(empty.path)
    empty.path.mkdir()
    empty.git("init", "--quiet", "--bare")
    for url, why in (
        (f"ssh://{sshd.host}:{sshd.port}/nowhere.git", "there is no such repository.*Check the path"),
        (f"ssh://127.0.0.1:{free_port()}/a.git", "no git server answers.*Check the host and the port"),
        (f"https://127.0.0.1:{free_port()}/a.git", "no git server answers.*Check the host and the port"),
        (str(tmp_path / "nowhere"), "there is no such repository"),
        (empty.url, "it has no branch yet.*Push a first commit"),
    ):
        with pytest.raises(NotReadyError, match=why):
            look_at(url, key, TELLING)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("fatal: unable to access 'https://a/': Could not resolve host: a", "no host of that name"),
        ("ssh: Could not resolve hostname a: Name or service not known", "no host of that name"),
        ("fatal: Authentication failed for 'https://a/'", "refuses the login"),
        ("fatal: could not read Username for 'https://a': terminal prompts disabled", "refuses the login"),
        ("fatal: unable to access 'https://a/': The requested URL returned error: 403", "refuses the login"),
        ("remote: Repository not found.\nfatal: repository 'https://a/' not found", "no such repository"),
        ("@@@\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nPermission denied", "another host key"),
        ("fatal: unable to access 'https://a/': SSL certificate problem: unable to get", "certificate"),
    ],
)
def test_what_git_says_is_explained(said: str, why: str) -> None:
    assert why in source.explain(said)[0]
    assert source.explain(said)[1]


def test_what_nobody_has_foreseen_is_told_in_git_s_own_words() -> None:
    assert source.explain("fatal: the moon is full\n\n") == ("fatal: the moon is full", "")


def test_a_changed_host_key_is_refused(make_sshd: Callable[..., OpenSSHServer], git_repo: GitRepository) -> None:
    server = make_sshd()
    key = make_credential(server)
    assert look_at(over_ssh(server, git_repo), key, TELLING).branches == ["main"]
    server.change_host_key()
    with pytest.raises(NotReadyError, match="another host key"):
        look_at(over_ssh(server, git_repo), key, TELLING)


@pytest.mark.parametrize(
    "url",
    [
        "--upload-pack=touch {mark}",
        "-oProxyCommand=touch {mark}",
        "ext::sh -c 'touch {mark}'",
        "ssh://-oProxyCommand=touch%20{mark}/a",
        "ssh://a@-oProxyCommand=touch {mark}/a",
        "https://git.example.com/a.git\ntouch {mark}",
        "file:///etc/$(touch {mark})",
        "/tmp/`touch {mark}`",
        "/tmp/'; touch {mark}; '",
        "https://user:password@git.example.com/a.git",
        "git://git.example.com/a.git",
    ],
)
def test_a_hostile_address_runs_nothing_and_is_refused(maria: Client, tmp_path: Path, url: str) -> None:
    mark = tmp_path / "mark"
    html = look(maria, url.format(mark=mark))
    assert "field-error" in html
    assert "Create the project" not in html
    assert not mark.exists()


def test_a_path_of_this_machine_is_refused_unless_the_setting_allows_it(
    maria: Client, git_repo: GitRepository, settings
) -> None:
    settings.DEPLOYER_ALLOW_LOCAL_GIT = False
    assert "DEPLOYER_ALLOW_LOCAL_GIT=yes" in look(maria, git_repo.url)
    with pytest.raises(NotReadyError, match="DEPLOYER_ALLOW_LOCAL_GIT=yes"):
        look_at(git_repo.url, None, TELLING)


def test_a_branch_and_a_file_with_hostile_names_stay_names(git_repo: GitRepository, tmp_path: Path) -> None:
    name = "x;touch${IFS}mark&&`id`"
    git_repo.branch(name)
    git_repo.commit({"a\nb; touch mark": "", "$(id)": "", "package.json": PACKAGE, "manage.py": b"\xff\x00" * 40_000})
    found = look_at(git_repo.url, None, TELLING, name)
    assert (found.branch, found.problem) == (name, "")
    assert {"a\nb; touch mark", "$(id)", "index.html"} < set(found.files)
    assert found.files["package.json"] == PACKAGE
    assert found.files["manage.py"] == ""  # too large to be read for a guess
    assert not list(Path.cwd().glob("mark*"))


def test_nothing_of_a_look_stays_behind(git_repo: GitRepository) -> None:
    before = sorted(settings.MIRRORS_DIR.glob("*.git")) if settings.MIRRORS_DIR.is_dir() else []
    look_at(git_repo.url, None, TELLING)
    assert sorted(settings.MIRRORS_DIR.glob("*.git")) == before


def test_who_may_not_add_projects_is_refused_and_a_visitor_is_sent_to_the_login(client: Client) -> None:
    for name in ("project_add", "project_add_look"):
        assert client.post(reverse(name), {}).headers["Location"].startswith(reverse("login"))
    assert client.post(reverse("project_add_look"), {}, headers={"HX-Request": "true"})["HX-Refresh"] == "true"
    client.force_login(make_member("operator"))
    assert client.get(reverse("project_add")).status_code == 403
    assert client.post(reverse("project_add_look"), first_step("")).status_code == 403
    assert client.post(reverse("project_add"), first_step("")).status_code == 403


def test_who_may_not_edit_a_credential_cannot_have_it_sent_anywhere(
    client: Client, sshd: OpenSSHServer, git_repo
) -> None:
    client.force_login(make_member("maintainer", "staging"))
    credential = make_credential(sshd, name="the team's key")
    assert "the team&#x27;s key" not in client.get(reverse("project_add")).content.decode()
    html = look(client, over_ssh(sshd, git_repo), git_credential=credential.pk)
    assert "Create the project" not in html
