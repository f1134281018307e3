"""Every page of the site, and a database in which each of them has something to show.

Whoever adds a page lists it here.
"""

from dataclasses import dataclass
from datetime import time
from typing import Any

from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils import timezone

from deployer.models import (
    Answer,
    Approval,
    Channel,
    CommandLine,
    CommandParameter,
    CommandRun,
    Delivery,
    Deployment,
    FailureQuestion,
    Freeze,
    GateRule,
    Lock,
    LogLine,
    Notice,
    Release,
    SavedCommand,
    Schedule,
    Sighting,
    Stop,
    Target,
    Train,
    TrainRun,
    TrainStop,
    Webhook,
)
from people.models import ApiToken, Grant, Team, User
from projects.models import (
    AttachedSet,
    ConfigFile,
    HealthCheck,
    Project,
    Service,
    SetVariable,
    Step,
    Template,
    TemplateCheck,
    TemplateFile,
    TemplateStep,
    TemplateVariable,
    Variable,
    VariableSet,
)
from projects.templates import follow
from servers.models import Credential, Server, ServerGroup
from tests.factories import make_credential, make_deployment, make_group, make_project, make_server, make_user

#: Parts of the site that are not written here.
FOREIGN = {"admin", "api", "django_rq"}


@dataclass(frozen=True)
class Page:
    """Which row of the `World` its address names, and its query; ``{group.pk}`` there is that of the world's group."""

    of: str = ""
    query: str = ""


PAGES = {
    "home": Page(),
    "activity": Page(),
    "playground": Page(),
    "overview": Page(),
    "account": Page(),
    "password": Page(),
    "mfa_index": Page(),
    "tokens": Page(),
    "sessions": Page(),
    "people": Page(),
    "user": Page("person"),
    "user_invite": Page(),
    "user_deactivate": Page("person"),
    "user_token_add": Page("robot"),
    "service_add": Page(),
    "teams": Page(),
    "team": Page("team"),
    "team_add": Page(),
    "team_edit": Page("team"),
    "team_delete": Page("team"),
    "projects": Page(),
    "project": Page("project"),
    "project_add": Page(),
    "project_edit": Page("project"),
    "project_copy": Page("project"),
    "project_variables": Page("project"),
    "project_services": Page("project"),
    "project_paste": Page("project"),
    "project_history": Page("project"),
    "project_sets": Page("project"),
    "project_effective": Page("project", "server={server.pk}"),
    "project_health": Page("project"),
    "project_steps": Page("project"),
    "sets": Page(),
    "set_add": Page(),
    "variable_set": Page("set"),
    "set_edit": Page("set"),
    "set_variables": Page("set"),
    "set_delete": Page("set"),
    "templates": Page(),
    "template_add": Page(),
    "template": Page("template"),
    "template_edit": Page("template"),
    "template_steps": Page("template"),
    "template_health": Page("template"),
    "template_variables": Page("template"),
    "template_files": Page("template"),
    "template_delete": Page("template"),
    "template_yaml": Page("template"),
    "project_template": Page("project"),
    "project_files": Page("project"),
    "project_file_add": Page("project"),
    "config_file": Page("file"),
    "config_file_versions": Page("file"),
    "config_file_delete": Page("file"),
    "project_since": Page("project"),
    "project_triggers": Page("project"),
    "webhook_add": Page("project"),
    "webhook": Page("webhook"),
    "webhook_edit": Page("webhook"),
    "webhook_delete": Page("webhook"),
    "delivery": Page("delivery"),
    "schedule_add": Page("project"),
    "schedule_preview": Page("project", "cron=30+2+*+*+1-5&time_zone=Europe/Berlin"),
    "schedule": Page("schedule"),
    "schedule_delete": Page("schedule"),
    "project_yaml": Page("project"),
    "project_archive": Page("project"),
    "project_restore": Page("archived"),
    "project_delete": Page("project"),
    "project_builds": Page("project"),
    "project_board": Page("project"),
    "project_places": Page("project"),
    "project_beside": Page("project"),
    "releases": Page("project"),
    "launch": Page("project", "type=full&group={group.pk}&release={release.version}"),
    "launch_names": Page("project"),
    "launch_servers": Page("project", "server_groups={group.pk}"),
    "launch_changes": Page("project", "deployment_type=full&branch=main&server_groups={group.pk}"),
    "servers": Page(),
    "server": Page("server"),
    "server_since": Page("server"),
    "project_names": Page(query="project=s"),
    "server_names": Page(query="jump_host=w"),
    "group_names": Page(),
    "credential_names": Page(),
    "servers_change": Page(query="act=deactivate&server={server.pk}"),
    "server_add": Page(query="group={group.pk}"),
    "server_edit": Page("server"),
    "server_delete": Page("server"),
    "server_import": Page(),
    "host_key": Page("server"),
    "groups": Page(),
    "group": Page("group"),
    "group_add": Page(),
    "group_edit": Page("group"),
    "group_delete": Page("group"),
    "credentials": Page(),
    "credential_add": Page(),
    "credential_edit": Page("credential"),
    "credential_delete": Page("credential"),
    "record": Page(),
    "system": Page(),
    "record_export": Page(query="format=csv"),
    "deployments": Page(),
    "deployments_export": Page(),
    "find": Page(query="text=e"),
    "deployment_compare": Page(query="with={older.pk}&with={ended.pk}"),
    "compare_commits": Page(query="with={older.pk}&with={ended.pk}"),
    "deployment": Page("running", "level=warning"),
    "deployment_poll": Page("running"),
    "deployment_server": Page("running", "of={target.pk}"),
    "deployment_earlier": Page("running", "before=99999999"),
    "deployment_later": Page("running"),
    "deployment_around": Page("running", "at=1"),
    "deployment_find": Page("running", "text=a"),
    "deployment_turn": Page("waiting"),
    "deployment_error": Page("running"),
    "deployment_moment": Page("running", "at=0"),
    "deployment_changes": Page("ended"),
    "deployment_variables": Page("ended"),
    "deployment_log": Page("running"),
    "deployment_cancel": Page("running"),
    "deployment_continue": Page("running"),
    "deployment_abort": Page("asking"),
    "deployment_answer": Page("asking"),
    "deployment_retry": Page("ended"),
    "deployment_rollback": Page("ended"),
    "deployment_again": Page("ended"),
    "deployment_previous": Page("ended"),
    "deployment_drained": Page("ended"),
    "deployment_decide": Page("waiting"),
    "deployment_override": Page("waiting"),
    "gates": Page(),
    "hold": Page(),
    "lock_add": Page(),
    "freeze_add": Page(),
    "freeze_edit": Page("freeze"),
    "rule_add": Page(),
    "rule_edit": Page("rule"),
    "project_logs": Page("project"),
    "channels": Page(),
    "channel_add": Page(query="kind=telegram"),
    "channel": Page("channel"),
    "channel_edit": Page("channel"),
    "channel_yaml": Page("channel"),
    "channel_notices": Page("channel"),
    "channel_delete": Page("channel"),
    "commands": Page(),
    "command_add": Page(),
    "command_form": Page(query="command={command.pk}"),
    "command": Page("command"),
    "command_delete": Page("command"),
    "command_run": Page("command_run"),
    "command_poll": Page("command_run"),
    "command_earlier": Page("command_run", "before=99999999"),
    "command_log": Page("command_run"),
    "trains": Page(),
    "train_add": Page(),
    "train": Page("train"),
    "train_edit": Page("train"),
    "train_delete": Page("train"),
    "train_yaml": Page("train"),
    "train_run": Page("train_run"),
    "train_poll": Page("train_run"),
    "train_roll_back": Page("train_run"),
    "train_cancel": Page("train_run"),
}
#: Those that only find out where to go.
LEAD_ELSEWHERE = {"deployment_error", "deployment_moment", "deployment_again", "deployment_previous"}
#: Addresses that show nothing of the database, and why.
NOT_PAGES = {
    "login": "is for those who are not known yet",
    "hook": "is only sent to, by git servers",
    "ci_file": "is a file for CI jobs",
    "ci_digest": "is of a file for CI jobs",
    "account_login": "is the login, by another name",
    "mfa_authenticate": "is for those who are not known yet",
    "openid_connect_login": "leads to the provider",
    "openid_connect_callback": "leads back from the provider",
    **dict.fromkeys(("account_reauthenticate", "mfa_reauthenticate"), "asks for a password or a code"),
    "mfa_reauthenticate_webauthn": "asks for a passkey",
    "mfa_activate_totp": "asks for the password first",
    "mfa_deactivate_totp": "asks for the password first",
    "mfa_add_webauthn": "asks for the password first",
    "mfa_remove_webauthn": "asks for the password first",
    "mfa_view_recovery_codes": "asks for the password first",
    "mfa_generate_recovery_codes": "asks for the password first",
    "user_factors_remove": "is only sent to",
    "logout": "is only sent to",
    "set_language": "is only sent to",
    "join": "is for those who are not known yet",
    "user_link": "is only sent to",
    "user_grant": "is only sent to",
    "user_reactivate": "is only sent to",
    "user_sessions_end": "is only sent to",
    "user_token_revoke": "is only sent to",
    "team_grant": "is only sent to",
    "grant_take": "is only sent to",
    "token_revoke": "is only sent to",
    "session_end": "is only sent to",
    "sessions_end": "is only sent to",
    "launch_check": "asks servers",
    "launch_fetch": "asks the repository",
    "project_look": "asks servers",
    "project_favourite": "is only sent to",
    "project_files_differences": "asks servers",
    "project_try": "asks a server",
    "project_find": "asks a server",
    "project_take": "is only sent to",
    "project_add_find": "asks a server",
    "project_clear": "is only sent to",
    "project_add_look": "asks the repository",
    "playground_make": "is only sent to",
    "playground_remove": "is only sent to",
    "server_look": "asks a server",
    "server_test": "asks a server",
    "server_test_stage": "asks a server",
    "server_test_briefly": "asks a server",
    "filter_keep": "is only sent to",
    "servers_test": "asks servers",
    "server_import_take": "is only sent to",
    "host_key_pin": "is only sent to",
    "hold_lift": "is only sent to",
    "lock_lift": "is only sent to",
    "freeze_delete": "is only sent to",
    "rule_delete": "is only sent to",
    "release_mark": "is only sent to",
    "project_triggers_hold": "is only sent to",
    "webhook_renew": "is only sent to",
    "webhook_pause": "is only sent to",
    "webhook_take": "is only sent to",
    "webhook_test": "is only sent to",
    "delivery_again": "is only sent to",
    "project_triggers_lift": "is only sent to",
    **dict.fromkeys(("schedule_pause", "schedule_resume", "schedule_take", "schedule_run"), "is only sent to"),
    "command_cancel": "is only sent to",
    **dict.fromkeys(("train_decide", "train_continue", "train_halt"), "is only sent to"),
    "train_plan": "asks all rules and gates of each stop, as the launch does",
    **dict.fromkeys(("train_without", "train_again"), "is only sent to"),
    "channel_test": "is only sent to",
    "channel_pause": "is only sent to",
    "log_follow": "follows a log, whose number it names too",
    "log_poll": "follows a log, whose number it names too",
}


def names(resolver: URLResolver | None = None) -> set[str]:
    """The names of all addresses of our own."""
    found: set[str] = set()
    for entry in (resolver or get_resolver()).url_patterns:
        if isinstance(entry, URLPattern):
            found.add(entry.name or str(entry.pattern))
        elif entry.namespace not in FOREIGN:
            found |= names(entry)
    return found


class World:
    """A project with two deployments that have ended and all else that belongs to one, and another that is deployed."""

    file: ConfigFile | None = None

    def __init__(self) -> None:
        self.person: User = make_user(is_superuser=False)
        self.robot: User = make_user(is_superuser=False, is_service=True)
        self.team: Team = Team.objects.create(name="team")
        Grant.objects.create(user=self.robot, role="viewer")
        self.credential: Credential = make_credential()
        name = "web-behind-the-load-balancer-1"  # no page is wider than a phone for that
        self.server: Server = make_server(name=name, jump_host=make_server(), credential=self.credential)
        self.group: ServerGroup = make_group(self.server, make_server())
        self.project: Project = make_project(git_credential=make_credential(), batches="1, 100%")
        self.set: VariableSet = VariableSet.objects.create(name="set", environment="production")
        self.template: Template = Template.objects.create(name="template", description="x")
        self.project.template = self.template
        self.project.save()
        self.release = self.another_release()
        self.older = self.another_deployment(self.project, "success")
        self.ended = self.another_deployment(self.project, "failed")
        self.running = make_deployment(make_project(batches="1, 100%"), self.group, deployment_type="restart_only")
        self.running.claim_for_worker()
        self.running.pause()
        self.target = self.running.targets.all()[0]
        self.running.targets.filter(batch=1).update(status=Target.Status.SUCCESS)
        now = timezone.now()
        self.asking = make_deployment(make_project(batches="1, 100%"), self.group)
        Deployment.objects.filter(pk=self.asking.pk).update(
            status="deploying", claim="worker", started_at=timezone.now()
        )
        self.asking.refresh_from_db()
        broken = self.asking.targets.filter(batch=1)
        broken.update(status="failed", error="no", started_at=now, begun_at=now)
        failure = {"key": "k", "target": broken.get().pk, "server": broken.get().server_name, "what": "", "moment": ""}
        failure |= {"error": "no", "proof": "", "evidence": "why\n", "required": False, "again": True}
        FailureQuestion.ask(self.asking, [failure], Answer.values, minutes=60, batch=1)
        self.archived: Project = make_project(archived_at=timezone.now(), archived_by=make_user())
        self.wait()
        self.grow()

    def another_release(self) -> Release:
        number = Release.objects.count()
        values = {"version": f"v{number}", "commit_hash": f"{number:040x}", "archive": "x", "created_by": make_user()}
        return Release.objects.create(project=self.project, **values)

    def another_deployment(self, project: Project, status: str) -> Deployment:
        """One that has ended."""
        it = make_deployment(project, self.group, deployment_type="full", created_by=make_user())
        it.targets.update(status=status, release_before="v0", release_after="v1", error="no", exit_code=1)
        now = timezone.now()
        ended = {"status": status, "started_at": now, "finished_at": now, "release": self.release}
        Deployment.objects.filter(pk=it.pk).update(**ended, error_message="no")
        it.refresh_from_db()
        return it

    def another_command(self) -> None:
        """One more saved command with a parameter, and one more run with a server and its log."""
        number = SavedCommand.objects.count()
        another = SavedCommand.objects.create(name=f"command-{number}", script="echo $WORD")
        self.command: SavedCommand = SavedCommand.objects.order_by("pk")[0]
        for each in (self.command, another):
            CommandParameter.objects.create(command=each, name=f"WORD_{each.parameters.count()}", choices="x\ny")
        values = {"name": "x", "script": "x", "environments": ",production,", "values": {"WORD": "x"}}
        CommandRun.objects.create(**values, command=self.command, created_by=make_user(), status="running")
        self.command_run: CommandRun = CommandRun.objects.order_by("pk")[0]
        for server in self.group.servers.all():
            if not self.command_run.targets.filter(server=server).exists():
                target = self.command_run.targets.create(server=server, server_name=server.name, host="x")
                CommandLine.objects.create(
                    run=self.command_run, target=target, content="x", stream="stdout", timestamp=timezone.now()
                )

    def another_train(self) -> None:
        """One more train, and one more stop and one more run of the first, with a deployment of each stop."""
        another = Train.objects.create(name=f"train-{Train.objects.count()}", owner=make_user())
        self.train: Train = Train.objects.order_by("pk")[0]
        for train in {self.train, another}:
            stop = Stop.objects.create(train=train, project=make_project(), position=train.stops.count())
            stop.server_groups.add(self.group)
        TrainRun.objects.create(train=self.train, name="x", status="halted", created_by=make_user(), why="x")
        self.train_run: TrainRun = TrainRun.objects.order_by("pk")[0]
        number = self.train_run.stops.count() + 1
        project = make_project()
        values = {"project_name": "x", "environment": "production", "deployment_type": "restart_only", "why": "no"}
        stop_of_run = TrainStop.objects.create(
            run=self.train_run, position=number, project=project, status="failed", **values
        )
        it = make_deployment(project, self.group, deployment_type="restart_only")
        Deployment.objects.filter(pk=it.pk).update(train_stop=stop_of_run)
        self.train_run.approvals.create(decision="approved", decided_by=make_user())

    def another_webhook(self) -> None:
        """One more webhook of the project, and one more delivery of each."""
        number = Webhook.objects.count()
        values = {"project": self.project, "owner": make_user(), "provider": "github", "paths": ["x/**"]}
        another = Webhook.objects.create(name=f"webhook-{number}", **values)
        another.server_groups.add(self.group)
        self.webhook: Webhook = Webhook.objects.order_by("pk")[0]
        for each in (self.webhook, another):
            number = Delivery.objects.count()
            sent = {"identifier": f"x{number}", "event": "push", "kind": "push", "ref": "main", "after": "a" * 40}
            ended = {"status": "handled", "outcome": "launched", "reason": "no", "deployment": self.ended}
            values = {"received_at": timezone.now(), "sent_by": make_user(), "pushers": ["ada@example.com"]}
            Delivery.objects.create(webhook=each, project=self.project, **sent, **ended, **values)
        self.delivery: Delivery = Delivery.objects.order_by("pk")[0]

    def grow(self) -> None:
        """One more of everything, wherever something has many of it."""
        self.grow_people()
        server = make_server(jump_host=make_server(), credential=self.credential, connection_status="offline")
        self.group.servers.add(server, make_server(is_active=False))
        group = make_group(server, *self.group.servers.all()[:2])
        for it in (self.running, self.ended, self.older):
            it.server_groups.add(group)
            Target.objects.create(
                deployment=it, server=server, server_name=server.name, host="x", batch=2, release_before="v0"
            )
            self.say(it)
        self.another_release()
        self.another_command()
        self.another_train()
        self.another_webhook()
        self.another_channel()
        for project in (self.project, make_project(git_credential=make_credential())):
            count = project.variables.count()
            if project.template is None:
                project.template = self.template
                project.save()
            part = {"template": self.template, "name": f"T{count}_{project.pk}"}
            TemplateVariable.objects.create(**part, value="x")
            TemplateStep.objects.create(**part, moment="before", script="true", position=count)
            TemplateCheck.objects.create(template=self.template, kind="process", target=f"t{count}_{project.pk}")
            TemplateFile.objects.create(template=self.template, path=f"/etc/t{count}_{project.pk}", content="x")
            follow(project)
            Variable.objects.create(project=project, name=f"NAME_{count}", value="x")
            Variable.objects.create(project=project, name=f"ON_GROUP_{count}", value="x", server_group=self.group)
            Variable.objects.create(project=project, name=f"ON_SERVER_{count}", value="x", server=server)
            Variable.objects.create(project=project, name=f"QUESTION_{count}", value="x", is_prompt=True)
            another = VariableSet.objects.create(name=f"set-{VariableSet.objects.count()}", environment="production")
            for each_set in (another, self.set):
                SetVariable.objects.create(variable_set=each_set, name=f"SET_{SetVariable.objects.count()}", value="x")
                AttachedSet.objects.get_or_create(project=project, variable_set=each_set)
            file = ConfigFile.objects.create(project=project, path=f"/etc/x{count}", content="x", server_group=group)
            self.file = self.file or file
            self.file.content += "\nx"
            self.file.save()
            plan = {"cron": "30 2 * * *", "owner": self.person, "next_at": timezone.now()}
            schedule = Schedule.objects.create(project=project, name=f"x{count}", is_active=not count % 2, **plan)
            schedule.server_groups.add(self.group)
            schedule.runs.create(planned_for=timezone.now(), outcome="missed", why="x")
            self.schedule = schedule
            HealthCheck.objects.create(project=project, kind="process", target=f"x{count}")
            Service.objects.create(project=project, kind="systemd", name=f"x{count}", position=count)
            Step.objects.create(project=project, name=f"x{count}", moment="before", script="true", position=count)
            for each in self.group.servers.all():
                Sighting.record(project, each, release="v1", processes=[])
        for status in ("success", "failed"):
            self.say(self.another_deployment(make_project(git_credential=make_credential()), status))
        make_project(name=self.archived.name, archived_at=timezone.now(), archived_by=make_user())
        elsewhere = make_deployment(make_project(), group, deployment_type="restart_only", created_by=make_user())
        elsewhere.claim_for_worker()
        self.wait()

    def another_channel(self) -> None:
        """One more channel with all that is said of one, and one more notice in the first."""
        values = {"kind": "slack", "address": {"url": "https://hooks.example.com/x"}, "events": ["failed", "drift"]}
        another = Channel.objects.create(name=f"channel-{Channel.objects.count()}", **values, made_by=make_user())
        self.channel: Channel = Channel.objects.order_by("pk")[0]
        another.projects.add(self.project)
        now = timezone.now()
        facts = {"project": "shop", "environment": "production", "number": 1}
        Notice.objects.create(
            channel=self.channel, event="failed", facts=facts, deployment=self.ended, created_at=now, answer="HTTP 500"
        )
        for each in (self.channel, another):
            each.projects.add(self.project)
            each.note(now, "HTTP 500", ok=False)

    def wait(self) -> None:
        """A project before which every gate stands, and a deployment of it that waits for an approval."""
        project, maker = make_project(), make_user()
        self.rule = GateRule.objects.create(project=project, needs_approval=True, proof_hours=2)
        team = Team.objects.create(name=f"approvers-{Team.objects.count()}")
        self.waiting = make_deployment(project, self.group, deployment_type="restart_only", created_by=maker)
        self.waiting.approvals.create(decision=Approval.Decision.OVERRIDDEN, decided_by=maker, reason="x")
        self.waiting.approvals.create(decision=Approval.Decision.APPROVED, decided_by=maker, digest="x")
        self.rule.approvers.add(team)
        Lock.objects.create(project=project, reason="x", made_by=maker)
        Lock.objects.create(project=project, reason="x", made_by=maker).lift(maker)
        times = {"begins_at": time(0), "ends_at": time(1)}
        self.freeze = Freeze.objects.create(project=project, reason="x", weekdays="0", made_by=maker, **times)

    def grow_people(self) -> None:
        """One more user, team, grant, token and session."""
        number = User.objects.count()
        member = make_user(is_superuser=False)
        another = Team.objects.create(name=f"team-{number}")
        for team in (self.team, another):
            team.members.add(self.person, member)
            Grant.objects.create(team=team, role="operator", project=number)
        for user in (self.person, self.robot, member):
            Grant.objects.create(user=user, role="viewer", project=number)
            token = ApiToken(name=f"token-{number}", user=user, projects=[number])
            token.renew()
            token.save()
        Client().force_login(self.person)

    def say(self, it: Deployment) -> None:
        """A line of each level, from the newest server."""
        values: dict[str, Any] = {"target": it.targets.last(), "content": "x", "timestamp": timezone.now()}
        LogLine.objects.bulk_create(LogLine(deployment=it, level=level, **values) for level in LogLine.Level.values)


def address_of(name: str, world: World) -> str:
    """The address of a page, with what it is asked for."""
    page = PAGES[name]
    url = reverse(name, args=[getattr(world, page.of).pk] if page.of else [])
    return f"{url}?{page.query.format(**vars(world))}"
