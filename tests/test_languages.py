"""English and Chinese: the catalogue is whole, pages and commands speak the language that was asked for."""

import ast
import html
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polib
import pytest
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP
from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.core.exceptions import ImproperlyConfigured
from django.test import Client
from django.urls import get_resolver, reverse
from django.utils import timezone, translation

from deployer.models import (
    Channel,
    CommandRun,
    Delivery,
    Deployment,
    Event,
    Freeze,
    GateRule,
    Lock,
    LogLine,
    Notice,
    Release,
    SavedCommand,
    Schedule,
    Sighting,
    Train,
    TrainRun,
    Webhook,
)
from deployer.settings import language
from people.models import ApiToken, Grant, Session, Team
from projects.models import AttachedSet, ConfigFile, HealthCheck, Template, Variable, VariableSet
from projects.templates import follow
from servers.errors import ShellError
from servers.models import Server
from servers.sentences import because, sentences
from tests.factories import make_credential, make_deployment, make_group, make_project, make_server, make_user
from tests.parts.html import tight

pytestmark = pytest.mark.any_database

FLOORS = ("deployer", "pages", "people", "projects", "servers")
HOUSE = Path(__file__).resolve().parent.parent
CATALOGUE = HOUSE / "pages" / "locale" / "zh_Hans" / "LC_MESSAGES" / "django.po"
CHINESE = re.compile(r"[\u4e00-\u9fff]")
#: What is the same in Chinese, or needs no Chinese letter there.
UNTRANSLATED = {
    "API",
    "Git",
    "GitHub",
    "GitLab",
    "HTTP",
    "Java",
    "Microsoft Teams",
    "SHA-256",
    "Webhook",
    "webhook",
    "webhook: %s",
    "webhooks",
    "deployer apply demo.yaml",
    "pid %(pid)s (%(command)s)",
    "%(type)s deployment #%(number)d of %(project)s to %(environment)s: %(servers)s",
    "%(sent).1f of %(size).1f MB (%(percent)d %%), %(rate).1f MB/s",
    "Slack",
    "Telegram",
}


@pytest.fixture(autouse=True)
def _own_language() -> Iterator[None]:
    """A request leaves its language behind in its thread, which is that of all tests."""
    yield
    translation.deactivate()


@pytest.fixture(scope="module")
def catalogue() -> polib.POFile:
    return polib.pofile(str(CATALOGUE))


def said(entry: polib.POEntry) -> list[str]:
    """The translations of an entry: one, or one for each plural form."""
    return [*entry.msgstr_plural.values()] if entry.msgid_plural else [entry.msgstr]


# --- the catalogue -----------------------------------------------------------------------------------


def test_every_string_of_the_catalogue_is_translated(catalogue: polib.POFile) -> None:
    assert not [entry.msgid for entry in catalogue if not entry.translated() or entry.fuzzy or entry.obsolete]
    assert not [
        entry.msgid
        for entry in catalogue
        if re.search("[A-Za-z]{2}", re.sub(PLACEHOLDER, "", entry.msgid))
        and not all(CHINESE.search(text) for text in said(entry))
        and entry.msgid not in UNTRANSLATED
    ]


PLACEHOLDER = re.compile(r"%\(\w+\)[-+.\d]*[a-z]|%[-+.\d]*[a-z](?![a-z])|%%|\{\w*\}|<[^>]+>")


def test_placeholders_and_markup_are_the_same_in_every_translation(catalogue: polib.POFile) -> None:
    def marks(text: str) -> list[str]:
        return sorted(PLACEHOLDER.findall(text))

    wrong = [
        entry.msgid
        for entry in catalogue
        for text in said(entry)
        if marks(text) != marks(entry.msgid_plural or entry.msgid)
    ]
    assert not wrong


def test_the_compiled_catalogue_holds_what_the_catalogue_says(catalogue: polib.POFile) -> None:
    compiled = polib.mofile(str(CATALOGUE.with_suffix(".mo")))
    words, found = (
        {(entry.msgctxt, entry.msgid): said(entry) for entry in entries} for entries in (catalogue, compiled)
    )
    assert found == words


def test_every_string_of_the_product_is_in_the_catalogue(tmp_path: Path, catalogue: polib.POFile) -> None:
    """What ``make messages`` does to a copy of the product changes nothing; where it does, run it and translate."""
    for name in (*FLOORS, ".ci"):
        shutil.copytree(HOUSE / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(HOUSE / "manage.py", tmp_path)
    environment = {**os.environ, "PYTHON": sys.executable, "DJANGO_SETTINGS_MODULE": "deployer.settings"}
    done = subprocess.run(
        [tmp_path / ".ci" / "messages"], cwd=tmp_path, env=environment, text=True, capture_output=True, check=False
    )
    gathered = {entry.msgid for entry in polib.pofile(str(tmp_path / CATALOGUE.relative_to(HOUSE)))}
    known = {entry.msgid for entry in catalogue}
    assert not gathered - known, "these are not in the catalogue"
    assert not known - gathered, "these are not in the product any more"
    assert done.returncode == 0, done.stdout + done.stderr


def test_strings_are_marked_so_that_they_can_be_gathered(catalogue: polib.POFile) -> None:
    """Within an f-string, and put together from parts, they are not seen by gettext."""
    known = {entry.msgid for entry in catalogue} | {entry.msgid_plural for entry in catalogue}
    lost = [
        f"{path.relative_to(HOUSE)}:{call.lineno} {ast.unparse(text)}"
        for path, call in _marked()
        for text in call.args[: 2 if getattr(call.func, "id", "") == "ngettext" else 1]
        if not isinstance(text, ast.Constant) or text.value not in known
    ]
    assert not lost


MARKS = {"_", "gettext", "gettext_lazy", "ngettext"}


def _marked() -> Iterator[tuple[Path, ast.Call]]:
    """Every call that marks a string for translation."""
    for path in (path for floor in FLOORS for path in (HOUSE / floor).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in MARKS:
                yield path, node


#: What translates itself or is no text: other tags, comments, drawings, and what machines are told.
SILENT = re.compile(
    r"""\{% \s* blocktranslate\b .*? \{% \s* endblocktranslate \s* %\} | \{\#.*?\#\} | \{%.*?%\} | \{\{.*?\}\}
        | <(svg|code|pre|kbd)\b .*? </\1> | <(\w+)\s[^>]*\bclass="[^"]*\bmono\b[^>]*> .*? </\2>""",
    re.VERBOSE | re.DOTALL,
)


@pytest.mark.parametrize("path", sorted((HOUSE / "pages" / "templates").rglob("*.html")), ids=lambda path: path.name)
def test_no_text_of_a_template_is_beside_the_catalogue(path: Path) -> None:
    source = SILENT.sub(" ", path.read_text())
    texts = [*re.findall(r'\b(?:title|aria-label|placeholder|alt)="([^"]*)"', source), re.sub("<[^>]*>", " ", source)]
    words = {word for text in texts for word in re.findall(r"[A-Za-z]*[a-z][A-Za-z]*", text)}
    assert not words - {"deployer"}


@pytest.mark.parametrize("path", sorted((HOUSE / "pages" / "templates").rglob("*.html")), ids=lambda path: path.name)
def test_no_sentence_of_a_template_is_put_together_from_parts(path: Path) -> None:
    """Other languages have another order of words: a value stands within blocktranslate, not beside translate."""
    text = re.escape("{% translate ") + "(?:\"[^\"]*\"|'[^']*') %}"
    value = r"(?:<[^>]*>)?\{\{"
    lower_case = re.escape("{% translate ") + "[\"'][a-z]"
    glued = re.findall(rf"{text}[:,(]? ?{value}|\}}\}}[ ,(]+{lower_case}", path.read_text())
    assert not glued


def test_everything_that_the_admin_shows_of_our_models_has_a_chinese_name() -> None:
    models = [it for it in admin.site._registry if it._meta.app_label in FLOORS]
    with translation.override("zh-hans"):
        names = [f"{it.__name__}: {name}" for it in models for name in _names(it) if not CHINESE.search(name)]
    assert models
    assert not [name for name in names if name.split(": ")[1] not in UNTRANSLATED]


def _names(model: Any) -> Iterator[str]:
    """The names of a model, of what can be entered or seen of it, and of the choices there."""
    yield from (str(model._meta.verbose_name), str(model._meta.verbose_name_plural))
    yield str(apps.get_app_config(model._meta.app_label).verbose_name)
    for field in [*model._meta.fields, *model._meta.many_to_many]:
        if field.editable and not field.primary_key:
            yield str(field.verbose_name)
            yield from (str(label) for _value, label in field.choices or ())


# --- which language ----------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh-hans"),
        ("zh", "zh-hans"),
        ("zh-Hans-CN", "zh-hans"),
        ("zh-TW,en;q=0.5", "zh-hans"),
        ("fr,zh-CN;q=0.7,en;q=0.3", "zh-hans"),
        ("en-GB,en;q=0.9,zh;q=0.1", "en"),
        ("fr", "en"),
        ("", "en"),
    ],
)
def test_the_browser_chooses_the_language(client: Client, asked: str, answered: str) -> None:
    page = client.get(reverse("login"), headers={"accept-language": asked})
    assert f'<html lang="{answered}"' in page.content.decode()
    assert page["Content-Language"] == answered
    assert "Accept-Language" in page["Vary"]


@pytest.mark.django_db
def test_the_switch_outweighs_the_browser_and_is_remembered_for_a_year(client: Client) -> None:
    client.force_login(make_user("maria"))
    client.defaults["HTTP_ACCEPT_LANGUAGE"] = "en"
    page = tight(client.get(reverse("deployments") + "?status=failed&page=2").content.decode())
    (target,) = re.findall(r'name="next" value="([^"]*)"', page)
    assert re.search(r'<button [^>]*name="language" value="zh-hans" lang="zh-hans">简体中文</button>', page)

    answer = client.post(reverse("set_language"), {"language": "zh-hans", "next": html.unescape(target)})
    assert answer["Location"] == reverse("deployments") + "?status=failed&page=2"
    assert client.cookies[settings.LANGUAGE_COOKIE_NAME]["max-age"] == 365 * 24 * 60 * 60
    for name in ("home", "admin:index"):
        assert client.get(reverse(name))["Content-Language"] == "zh-hans"
    assert 'value="en" lang="en">English</button>' in tight(client.get(reverse("home")).content.decode())


@pytest.mark.django_db
@pytest.mark.parametrize("elsewhere", ["https://evil.example.com/", "//evil.example.com", "javascript:alert(1)"])
def test_the_switch_leads_to_no_other_site(client: Client, elsewhere: str) -> None:
    answer = client.post(reverse("set_language"), {"language": "zh-hans", "next": elsewhere})
    assert answer["Location"] == "/"


@pytest.mark.django_db
def test_a_language_that_there_is_not_changes_nothing(client: Client) -> None:
    client.post(reverse("set_language"), {"language": "../../etc/passwd"})
    assert settings.LANGUAGE_COOKIE_NAME not in client.cookies
    client.cookies[settings.LANGUAGE_COOKIE_NAME] = "../../etc/passwd"
    assert client.get(reverse("login"))["Content-Language"] == "en"


def test_a_wrong_language_stops_the_start_with_a_sentence() -> None:
    assert language("zh-hans") == "zh-hans"
    with pytest.raises(ImproperlyConfigured, match="DEPLOYER_LANGUAGE must be en or zh-hans, not 'fr'"):
        language("fr")


def test_commands_speak_the_language_of_the_settings() -> None:
    environment = {**os.environ, "DEPLOYER_LANGUAGE": "zh-hans", "DJANGO_SETTINGS_MODULE": "deployer.settings"}
    done = subprocess.run(
        [sys.executable, HOUSE / "manage.py", "deploy", "--help"],
        env=environment,
        text=True,
        capture_output=True,
        check=True,
    )
    assert "服务器组；可重复" in done.stdout
    assert "发起部署。" in re.sub(r"\s", "", done.stdout)


def test_an_error_is_one_sentence_after_another_with_the_marks_of_the_language() -> None:
    assert str(ShellError("it failed", "no space", "Make room.")) == "it failed: no space. Make room."
    with translation.override("zh-hans"):
        assert str(ShellError("上传失败", "空间不足", "请清理空间。")) == "上传失败：空间不足。请清理空间。"
        assert sentences("已取消。", "", because("没有开始", "已满")) == "已取消。没有开始：已满。"


@pytest.mark.django_db
def test_what_is_stored_when_somebody_cancels_is_in_the_language_of_the_settings(client: Client) -> None:
    client.force_login(make_user("maria"))
    it = make_deployment(make_project(), make_group(make_server()))
    client.post(reverse("deployment_cancel", args=[it.pk]), headers={"accept-language": "zh"})
    assert it.targets.get().error == "Cancelled before it started."


@pytest.mark.django_db
def test_a_proof_is_read_in_the_language_of_its_reader(client: Client) -> None:
    client.force_login(make_user("maria"))
    it = make_deployment(make_project(), make_group(make_server()), deployment_type="restart_only")
    old, new = ({"pid": pid, "start": pid, "since": "2026-01-01 10:00:00 UTC"} for pid in (7, 8))
    proof = {"verdict": "replaced", "name": "shop", "before": [old], "after": [new], "sentence": "As it was told."}
    it.targets.update(proof=proof)
    page = client.get(it.get_absolute_url(), headers={"accept-language": "zh"}).content.decode()
    assert "pid 7（启动于 2026-01-01 10:00:00 UTC）已被 pid 8（启动于 2026-01-01 10:00:00 UTC）替换。" in page
    it.targets.update(proof={"verdict": "replaced", "sentence": "As it was told."})  # kept by an earlier version
    assert "As it was told." in client.get(it.get_absolute_url()).content.decode()


@pytest.mark.django_db(transaction=True)
def test_what_servers_answer_to_a_check_is_in_the_language_of_who_asked(client: Client) -> None:
    client.force_login(make_user("maria"))
    project = make_project(environment="staging")
    group = make_group(make_server(host="127.0.0.1", port=1, name="web-1"), environment="staging")
    form = {"deployment_type": "restart_only", "server_groups": [group.pk]}
    page = client.post(reverse("launch_check", args=[project.pk]), form, headers={"accept-language": "zh"})
    assert "无法连接到 web-1" in page.content.decode()


# --- pages -------------------------------------------------------------------------------------------


class _Texts(HTMLParser):
    """Everything of a page that is read or heard, but for what machines and programs said."""

    READ = ("title", "aria-label", "placeholder", "alt", "data-busy", "data-empty", "data-label")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.found += [values[name] for name in self.READ if name in values]
        if tag in {"script", "style", "code", "pre"}:
            self._silent += 1

    def handle_endtag(self, tag: str) -> None:
        if tag in {"script", "style", "code", "pre"}:
            self._silent -= 1

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.found.append(" ".join(data.split()))


def english_on(page: str, catalogue: polib.POFile) -> list[str]:
    """The texts of a page that are a string of the catalogue, in English; whatever stands in its placeholders."""
    texts = _Texts()
    texts.feed(page)
    known = re.compile(
        "|".join(
            ".+".join(re.escape(part) for part in PLACEHOLDER.split(text))
            for entry in catalogue
            for text in filter(None, [entry.msgid, entry.msgid_plural])
            if text not in UNTRANSLATED and re.search("[a-z]{2}", PLACEHOLDER.sub("", text))
        )
    )
    return [text for text in texts.found if known.fullmatch(text)]


@pytest.fixture
def shop(client: Client, settings) -> dict[str, Any]:
    """A site on which something of everything has happened, told in Chinese, and the ids by the names of pages."""
    settings.LANGUAGE_CODE = "zh-hans"
    maria = make_user("maria")
    client.force_login(maria)
    client.defaults["HTTP_ACCEPT_LANGUAGE"] = "zh-CN"
    client.post(reverse("account_reauthenticate"), {"password": "correct horse"})
    TOTP.activate(maria, "JBSWY3DPEHPK3PXP")
    RecoveryCodes.activate(maria)
    login = make_credential(name="k1", username="u1")
    server, spare = make_server(name="web-1", credential=login), make_server(name="web-2", credential=login)
    Server.objects.filter(pk=spare.pk).update(is_active=False, connection_status="offline", connection_error="无法连接")
    group = make_group(server, spare, name="g1")
    project = make_project(name="shop", description="商店", environment=group.environment)
    HealthCheck.objects.create(
        project=project, kind="http", target="http://web/", expect="200", expect_header="A: b", required=False
    )
    Variable.objects.create(project=project, name="TOKEN", value="x", is_secret=True, scope="both")
    Variable.objects.create(project=project, name="PORT", value="1", server_group=group)
    Variable.objects.create(project=project, name="ROLE", value="a", is_prompt=True)
    its = VariableSet.objects.create(name="s1", environment=group.environment)
    template = Template.objects.create(name="t1", build_script="x")
    template.steps.create(name="t", moment="before", script="x")
    project.template = template
    project.save()
    follow(project)
    AttachedSet.objects.create(project=project, variable_set=its)
    release = Release.objects.create(
        project=project, version="v1", commit_hash="a" * 40, archive="a", size=2048, file_count=3, state="good"
    )
    ended = make_deployment(project, group, deployment_type="restart_only")
    ended.claim_for_worker()
    ended.targets.filter(server=server).update(
        status="unchanged", started_at=timezone.now(), exit_code=0, proof={"sentence": "没有替换。"}, evidence="x"
    )
    LogLine.objects.create(deployment=ended, content="重启", timestamp=timezone.now())
    ended.end(Deployment.Status.FAILED, "失败。")
    second = make_deployment(project, group, deployment_type="restart_only")
    second.claim_for_worker()
    second.end(Deployment.Status.SUCCESS)
    Sighting.record(project, server, release="v1", processes=[{"pid": 7, "since": "2026-01-01 10:00:00 UTC"}])
    other = make_project(name="api", environment=group.environment)
    active = make_deployment(other, group, deployment_type="full")
    person, robot = make_user("anna", is_superuser=False), make_user("ci", is_superuser=False, is_service=True)
    team = Team.objects.create(name="t1")
    team.members.add(person)
    grant = Grant.objects.create(team=team, role="operator", environment="production")
    Grant.objects.create(user=robot, role="viewer", project=project.pk)
    token = ApiToken(name="k2", user=person, projects=[project.pk])
    token.renew()
    token.save()
    Client(headers={"user-agent": "Firefox/130 Linux"}).force_login(person)
    lock = Lock.objects.create(project=other, reason="数据库搬家", made_by=person)
    rule = GateRule.objects.create(project=project, needs_approval=True, proof_hours=2)
    rule.approvers.add(team)
    times = {"begins_at": "00:00", "ends_at": "23:59"}
    freeze = Freeze.objects.create(environment="staging", reason="周末", weekdays="56", **times)
    Freeze.objects.create(environment="staging", reason="发布", is_open=True, first_day="2026-12-24", **times)
    waiting = make_deployment(project, group, deployment_type="restart_only", created_by=person)
    schedule = Schedule.objects.create(project=project, name="s1", cron="30 2 * * 1-5", owner=person)
    schedule.runs.create(planned_for=timezone.now(), outcome="missed", why="没有运行。")
    Schedule.objects.create(project=project, name="s2", at=timezone.now(), is_active=False, paused_reason="停用。")
    second.approvals.create(decision="overridden", reason="故障", decided_by=maria)
    values = {"server_group": group, "is_template": True, "content": "端口\n"}
    webhook = Webhook.objects.create(project=project, name="push", provider="gitlab")
    moment = timezone.now()
    sent = {"identifier": "1", "event": "push", "kind": "push", "ref": "main", "received_at": moment}
    delivery = Delivery.objects.create(webhook=webhook, project=project, **sent)
    file = ConfigFile.objects.create(project=project, path="/etc/x", **values)
    file.content = "端口\n端口\n"
    file.save()
    command = SavedCommand.objects.create(name="c1", description="清理", script="x", for_operators=True)
    command.parameters.create(name="WORD", label="词", choices="x", is_secret=False)
    channel = Channel.objects.create(
        name="c9", kind="telegram", address={"token": "x", "chat": "1"}, events=["failed"], environments=["production"]
    )
    now = timezone.now()
    for event in Event:
        Notice.objects.create(channel=channel, event=event, facts={"name": "n"}, created_at=now, tries=2, next_at=now)
    channel.note(now, "HTTP 200", ok=True)
    paused = Channel.objects.create(name="c10", kind="mail", is_active=False, paused_reason="搬家")
    runs = {
        status: CommandRun.objects.create(
            name="c1", script="x", environments=",production,", created_by=maria, status=status, finished_at=finished
        )
        for status, finished in (("running", None), ("failed", timezone.now()))
    }
    for run in runs.values():
        run.targets.create(server=server, server_name="web-1", host="x", status="failed", exit_code=1, error="失败。")
        run.targets.create(server=spare, server_name="web-2", host="x", status="done", exit_code=0)
    train = Train.objects.create(name="t1", description="全部", owner=maria)
    train.stops.create(project=project, deployment_type="restart_only")
    train_run = TrainRun.objects.create(train=train, name="t1", status="paused", created_by=maria, note="周五")
    stop = train_run.stops.create(
        position=1, project=project, project_name="shop", environment="production", deployment_type="full", why="失败。"
    )
    Deployment.objects.filter(pk=second.pk).update(train_stop=stop)
    return {
        "train": train.pk,
        "train_run": train_run.pk,
        "command": command.pk,
        "command_running": runs["running"].pk,
        "command_failed": runs["failed"].pk,
        "lock": lock.pk,
        "rule": rule.pk,
        "freeze": freeze.pk,
        "webhook": webhook.pk,
        "delivery": delivery.pk,
        "file": file.pk,
        "channel": channel.pk,
        "channel_paused": paused.pk,
        "waiting": waiting.pk,
        "person": person.pk,
        "robot": robot.pk,
        "team": team.pk,
        "grant": grant.pk,
        "token": token.pk,
        "session": Session.objects.all()[0].pk,
        "project": project.pk,
        "server": server.pk,
        "group": group.pk,
        "set": its.pk,
        "template": template.pk,
        "credential": login.pk,
        "ended": ended.pk,
        "second": second.pk,
        "active": active.pk,
        "other": other.pk,
        "release": release.pk,
        "schedule": schedule.pk,
    }


#: Whose id the address of a page holds, by how its name begins; the first that fits.
SUBJECTS = {
    **dict.fromkeys(("train_run", "train_poll"), ("train_run",)),
    **dict.fromkeys(
        ("train_decide", "train_continue", "train_halt", "train_roll_back", "train_cancel"), ("train_run",)
    ),
    "train": ("train",),
    "webhook_add": ("project",),
    "webhook": ("webhook",),
    "delivery": ("delivery",),
    **dict.fromkeys(
        ("command_run", "command_poll", "command_earlier", "command_log", "command_cancel"),
        ("command_running", "command_failed"),
    ),
    "command": ("command",),
    "lock": ("lock",),
    "rule": ("rule",),
    "freeze": ("freeze",),
    "config_file": ("file",),
    "channel": ("channel", "channel_paused"),
    "deployment": ("ended", "second", "active", "waiting"),
    "project": ("project",),
    "schedule_add": ("project",),
    "schedule_preview": ("project",),
    "schedule": ("schedule",),
    "launch": ("project", "other"),
    "releases": ("project",),
    "server": ("server",),
    "host_key": ("server",),
    "group": ("group",),
    "set": ("set",),
    "template": ("template",),
    "variable_set": ("set",),
    "credential": ("credential",),
    "user_token_add": ("robot",),
    "user": ("person", "robot"),
    "team": ("team",),
    "grant": ("grant",),
    "token": ("token",),
    "session": ("session",),
    "mfa_remove_webauthn": (),  # the page of the app's removal, with another name
}
ADMIN_PAGES = [
    ("admin:index", ""),
    ("admin:servers_server_add", ""),
    ("admin:servers_credential_add", ""),
    ("admin:servers_servergroup_add", ""),
    ("admin:projects_project_add", ""),
    ("admin:projects_project_changelist", ""),
    ("admin:deployer_deployment_change", "active"),
    ("admin:deployer_logline_changelist", ""),
    ("admin:deployer_release_change", "release"),
    ("admin:deployer_webhook_change", "webhook"),
    ("admin:deployer_delivery_change", "delivery"),
    ("admin:deployer_schedule_change", "schedule"),
    ("admin:deployer_triggerhold_changelist", ""),
    ("admin:deployer_channel_change", "channel"),
    ("admin:deployer_notice_changelist", ""),
    ("admin:people_apitoken_add", ""),
    ("admin:people_user_add", ""),
    ("admin:people_user_changelist", ""),
]


def _pages() -> Iterator[tuple[str, str]]:
    """The name of every address of the site, and whose id it takes."""
    addresses = get_resolver().reverse_dict
    for name in sorted(name for name in addresses if isinstance(name, str)):
        takes = addresses.getlist(name)[0][0][0][1]
        if takes == ["pk"]:
            beginning = next((known for known in SUBJECTS if name.startswith(known)), None)
            assert beginning, f"SUBJECTS does not say whose id {name} takes"
            yield from ((name, subject) for subject in SUBJECTS[beginning])
        elif not takes:
            yield name, ""


@pytest.mark.django_db
def test_no_english_is_left_on_any_chinese_page(client: Client, shop: dict[str, Any], catalogue: polib.POFile) -> None:
    found: dict[str, list[str]] = {}
    looked_at = 0
    for name, subject in [*_pages(), *ADMIN_PAGES]:
        page = client.get(reverse(name, args=[shop[subject]] if subject else []), follow=True)
        if page.status_code == 200 and page["Content-Type"].startswith("text/html"):
            looked_at += 1
            found[f"{name} {subject}"] = english_on(page.content.decode(), catalogue)
        if page.streaming:  # a log: read to its end, or it keeps its place among the few that are sent at once
            b"".join(page)
    assert looked_at > 30
    assert not {page: texts for page, texts in found.items() if texts}


@pytest.mark.django_db
def test_english_on_a_page_would_be_found(client: Client, catalogue: polib.POFile) -> None:
    client.force_login(make_user("maria"))
    page = client.get(reverse("home")).content.decode()
    assert {"Overview", "Log out", "Light or dark"} <= set(english_on(page, catalogue))


@pytest.mark.django_db
def test_error_pages_are_in_the_language_that_was_asked_for(client: Client) -> None:
    client.force_login(make_user("maria", is_superuser=False))
    client.raise_request_exception = False
    client.defaults["HTTP_ACCEPT_LANGUAGE"] = "zh"
    for address, status in (("/nowhere/", 404), ("/rq/", 403)):
        page = client.get(address)
        assert page.status_code == status
        assert '<html lang="zh-hans"' in page.content.decode()
        assert "返回总览" in page.content.decode()


# --- the documents -----------------------------------------------------------------------------------


def test_both_readmes_lead_to_each_other_and_say_the_same() -> None:
    english, chinese = (HOUSE / "README.md").read_text(), (HOUSE / "README.zh-hans.md").read_text()
    assert "](README.zh-hans.md)" in english
    assert "](README.md)" in chinese

    def facts(text: str) -> dict[str, list[str]]:
        return {
            "sections": ["#" * len(marks) for marks in re.findall(r"^(#+) ", text, re.M)],
            "settings": re.findall(r"[A-Z]{3,}_[A-Z_]+", text),
            "commands": [line.split("#")[0].strip() for line in re.findall(r"^(?:python|make|curl) .*", text, re.M)],
            "rows": [row.count("|") for row in re.findall(r"^\|.*\|$", text, re.M)],
            "code": [code for line in re.findall(r"^\|.*\|$", text, re.M) for code in re.findall(r"`([^`]+)`", line)],
            "links": [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith(("README", "#"))],
        }

    told, translated = facts(english), facts(chinese)
    for what in told:
        assert sorted(map(str, told[what])) == sorted(map(str, translated[what])), what
