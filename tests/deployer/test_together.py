"""Steps, config files, variables by place and values from outside in one deployment: in order, and all put back."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from deployer.engine.routines import carry_out, resume
from deployer.host.value_commands import value_commands
from deployer.launching.again import launch_rollback, retry_failed
from deployer.launching.moves import answer, cancel
from deployer.launching.putting_back import put_back
from deployer.launching.rules import LaunchRefusedError
from deployer.models import ConfigState, Deployment, Target
from deployer.plan import Plan
from projects.models import ConfigFile, Project, Step, Variable
from tests.factories import make_deployment, make_group, make_project, make_server, make_user
from tests.marks import rarely
from tests.parts.git import GitRepository
from tests.parts.html import tight
from tests.parts.sshd import OpenSSHServer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]


def vault(does: str) -> Any:
    """The only command that values are had from: it does this."""
    return value_commands(json.dumps({"vault": f"bash -c '{does}' {{}}"}), ("production",))


#: What a script writes down: who it is, what it is told, and the config files as they are at that moment.
WRITES = (
    'echo "${DEPLOY_STEP:-restart} $DEPLOY_ACTION $ROLE $(cat ~/app.conf 2>/dev/null || echo none) '
    '$(cat ~/shop/current/in.conf 2>/dev/null || echo none)" >>~/ledger\n'
)


class Site:
    """A project with all of it on one server: its restart fails where ``ROLE`` is broken."""

    def __init__(self, machine: OpenSSHServer, repository: GitRepository, **values: Any) -> None:
        self.machine = machine
        repository.commit({"restart.sh": WRITES + '[ "$ROLE" != broken ]\n'})
        self.group = make_group(make_server(machine, name="web-1"), name="web")
        self.project: Project = make_project(
            name=f"together-{os.getpid()}",
            **{"git_url": repository.url, "deploy_path": "~/shop", "deploy_script_path": "restart.sh"} | values,
        )
        self.role = Variable.objects.create(
            project=self.project, name="ROLE", value="first", server=self.group.servers.get(), scope="deploy"
        )
        for moment in ("prepare", "before_all", "before", "after"):
            Step.objects.create(project=self.project, name=moment, moment=moment, script=WRITES)
        self.file("~/app.conf", "role={{ ROLE }}")
        self.file("in.conf", "in={{ ROLE }}")

    def file(self, path: str, content: str) -> ConfigFile:
        row = ConfigFile(project=self.project, path=path, content=content, is_template=True)
        row.full_clean()
        row.save()
        return row

    def becomes(self, role: str) -> None:
        self.role.value = role
        self.role.save()

    def deployed(self, deployment_type: str = "full") -> Deployment:
        (self.machine.home / "ledger").write_text("")
        deployment = make_deployment(self.project, self.group, deployment_type=deployment_type)
        assert carry_out(deployment.pk)
        return Deployment.objects.get(pk=deployment.pk)

    @property
    def ledger(self) -> list[str]:
        return (self.machine.home / "ledger").read_text().splitlines()

    @property
    def conf(self) -> tuple[str, str]:
        home = self.machine.home
        return (home / "app.conf").read_text(), (home / "shop" / "current" / "in.conf").read_text()


@pytest.mark.every_case
def test_all_of_it_is_done_in_its_order(make_sshd: Any, git_repo: GitRepository) -> None:
    site = Site(make_sshd(), git_repo)
    deployment = site.deployed()
    assert deployment.status == "success", deployment.error_message
    assert site.ledger == [
        "prepare deploy first none none",
        "before_all deploy first none none",
        "before deploy first none none",
        "restart deploy first role=first in=first",
        "after deploy first role=first in=first",
    ]
    site.becomes("second")
    assert site.deployed("restart_only").status == "success"
    assert site.ledger == [
        "before restart second role=first in=first",
        "restart restart second role=second in=second",
        "after restart second role=second in=second",
    ]


def test_what_is_put_back_gets_the_files_and_the_values_of_before(make_sshd: Any, git_repo: GitRepository) -> None:
    site = Site(make_sshd(), git_repo, auto_rollback=True)
    first = site.deployed()
    git_repo.commit({"VERSION": "2"})
    site.becomes("broken")
    second = site.deployed()
    target = second.targets.get()
    assert (second.status, target.status, target.kept_out) == ("failed", "rolled_back", "")
    assert target.release_after == first.targets.get().release_after
    assert site.ledger[2:] == [
        "before deploy broken role=first in=first",
        "restart deploy broken role=broken in=broken",
        "restart undo first role=first in=first",
        "after undo first role=first in=first",
    ]
    assert site.conf == ("role=first", "in=first")
    assert {row.deployment_id for row in ConfigState.objects.exclude(digest="").filter(release="")} == {first.pk}


def test_a_restart_alone_is_put_back_on_its_files_and_values(make_sshd: Any, git_repo: GitRepository) -> None:
    site = Site(make_sshd(), git_repo, auto_rollback=True)
    site.deployed()
    site.becomes("broken")
    second = site.deployed("restart_only")
    assert [it.status for it in second.targets.all()] == ["rolled_back"]
    assert site.ledger == [
        "before restart broken role=first in=first",
        "restart restart broken role=broken in=broken",
        "restart undo first role=first in=first",
        "after undo first role=first in=first",
    ]
    assert site.conf == ("role=first", "in=first")


def test_a_rollback_that_is_launched_takes_today_or_all_as_it_was(make_sshd: Any, git_repo: GitRepository) -> None:
    site = Site(make_sshd(), git_repo)
    first = site.deployed()
    git_repo.commit({"VERSION": "2"})
    site.becomes("second")
    ConfigFile.objects.filter(path="~/app.conf").update(content="now={{ ROLE }}")
    Step.objects.filter(name="prepare").delete()
    Step.objects.filter(name="after").update(script=f"true\n{WRITES}")
    second = site.deployed()
    assert site.conf == ("now=second", "in=second")
    page = Client()
    page.force_login(make_user())
    told = tight(page.get(reverse("deployment_rollback", args=[second.pk])).content.decode())
    assert "first → second" in told
    assert all(name in told for name in ("Config file ~/app.conf", "Step after", f"as they were with #{first.pk}"))
    for former, conf in ((False, ("now=second", "in=second")), (True, ("role=first", "in=first"))):
        back = launch_rollback(second, created_by=None, trigger="cli", former_values=former)
        assert carry_out(back.pk)
        assert Deployment.objects.get(pk=back.pk).status == "success"
        assert site.conf == conf
        back.delete()


def test_a_config_file_has_a_value_from_outside_that_is_stored_nowhere(
    make_sshd: Any, git_repo: GitRepository, settings: Any, tmp_path: Path
) -> None:
    settings.DEPLOYER_VALUE_COMMANDS = value_commands(
        json.dumps({"vault": "bash -c 'echo hunter2-from-outside' {}"}), ("production",)
    )
    site = Site(make_sshd(), git_repo)
    Variable.objects.create(project=site.project, name="TOKEN", value_from="vault:shop/token", scope="deploy")
    site.file("~/token.conf", "token={{ TOKEN | json }}")
    deployment = site.deployed()
    assert deployment.status == "success", deployment.error_message
    assert (site.machine.home / "token.conf").read_text() == 'token="hunter2-from-outside"'
    assert not deployment.log_lines.filter(content__contains="hunter2-from-outside").exists()
    inode = (site.machine.home / "token.conf").stat().st_ino
    assert site.deployed("restart_only").status == "success"
    assert (site.machine.home / "token.conf").stat().st_ino == inode


def test_a_template_needs_a_value_on_each_of_its_servers(make_sshd: Any, git_repo: GitRepository) -> None:
    site = Site(make_sshd(), git_repo)
    site.group.servers.add(make_server(name="web-2"))
    with pytest.raises(LaunchRefusedError, match=r"cannot be filled in on web-2: .*ROLE"):
        make_deployment(site.project, site.group)
    Variable.objects.create(project=site.project, name="ROLE", value="of all")
    assert make_deployment(site.project, site.group).pk


def test_files_go_back_to_what_was_there_before_the_first_of_several_tries(
    make_sshd: Any, git_repo: GitRepository, settings: Any
) -> None:
    settings.DEPLOYER_PARK_AFTER = 0
    site = Site(make_sshd(), git_repo, guided_failure=True)
    site.deployed()
    site.becomes("broken")
    it = site.deployed("restart_only")
    for given in ("again", "roll_back"):
        assert it.is_asking
        question = it.questions.latest("id")
        assert answer(question, given, question.token, make_user()), question.choices
        assert resume(it.pk)
        it = Deployment.objects.get(pk=it.pk)
    assert [target.status for target in it.targets.all()] == ["rolled_back"]
    assert site.ledger == [
        "before restart broken role=first in=first",
        "restart restart broken role=broken in=broken",  # it stays drained between the two
        "restart restart broken role=broken in=broken",
        "restart undo first role=first in=first",
        "after undo first role=first in=first",
    ]
    assert site.conf == ("role=first", "in=first")


def test_behind_a_pause_files_and_values_are_as_they_were_to_be(
    make_sshd: Any, git_repo: GitRepository, settings: Any
) -> None:
    settings.DEPLOYER_PARK_AFTER = 0
    settings.DEPLOYER_VALUE_COMMANDS = value_commands(
        json.dumps({"vault": "bash -c 'echo hunter2-from-outside' {}"}), ("production",)
    )
    site = Site(make_sshd(), git_repo, batches="1", pause_after="1", may_stop_last_healthy=True)
    other = make_sshd()
    site.group.servers.add(make_server(other, name="web-2"))
    site.role.delete()
    Variable.objects.create(project=site.project, name="ROLE", value="all")
    Variable.objects.create(project=site.project, name="TOKEN", value_from="vault:shop/token", scope="deploy")
    site.file("~/token.conf", "token={{ TOKEN }}")
    deployment = site.deployed()
    assert deployment.paused_at is not None
    ConfigFile.objects.filter(path="~/token.conf").update(path="~/other.conf")  # what was launched counts
    assert deployment.continue_rollout()
    assert resume(deployment.pk)
    deployment = Deployment.objects.get(pk=deployment.pk)
    assert deployment.status == "success", deployment.error_message
    assert (other.home / "token.conf").read_text() == "token=hunter2-from-outside"
    assert not (other.home / "other.conf").exists()
    assert not deployment.log_lines.filter(content__contains="hunter2-from-outside").exists()


def test_a_stop_is_not_refused_for_a_config_file_that_it_does_not_put() -> None:
    server = make_server(name="web-1")
    groups = make_group(server, name="one"), make_group(server, name="two")
    project = make_project(service_kind="systemd", service_name="shop")
    file = {"project": project, "path": "/etc/shop.conf", "content": "{{ NOWHERE }}", "is_template": True}
    ConfigFile.objects.bulk_create([ConfigFile(**file, server_group=group) for group in groups])
    for deployment_type in ("full", "restart_only"):
        with pytest.raises(LaunchRefusedError):
            make_deployment(project, *groups, deployment_type=deployment_type)
    for deployment_type in ("stop", "start"):
        it = make_deployment(project, *groups, deployment_type=deployment_type)
        Deployment.objects.filter(pk=it.pk).update(status="success", finished_at=timezone.now())


def test_what_was_answered_holds_for_a_server_that_is_put_back() -> None:
    """The steps after are those of the deployment that has drained it: nothing is asked again, or forgotten."""
    group = make_group(make_server(name="web-1"))
    project = make_project()
    Variable.objects.create(project=project, name="POOL", is_prompt=True)
    it = make_deployment(project, group, answers={"POOL": "blue"})
    Deployment.objects.filter(pk=it.pk).update(status="failed", finished_at=timezone.now())
    Target.objects.filter(deployment=it).update(status="failed", kept_out="Its steps after were not run.")
    back = put_back(it.targets.get(), created_by=make_user(), trigger="web")
    assert isinstance(back.plan, dict)
    assert Plan.from_json(back.plan).variables_for("deploy")["POOL"] == "blue"


def test_behind_a_pause_nothing_says_that_no_server_was_touched(
    make_sshd: Any, git_repo: GitRepository, settings: Any
) -> None:
    settings.DEPLOYER_PARK_AFTER = 0
    settings.DEPLOYER_VALUE_COMMANDS = vault("echo hunter2-from-outside")
    site = Site(make_sshd(), git_repo, batches="1", pause_after="1", may_stop_last_healthy=True)
    site.group.servers.add(make_server(make_sshd(), name="web-2"))
    site.role.delete()
    Variable.objects.create(project=site.project, name="ROLE", value="all")
    Variable.objects.create(project=site.project, name="TOKEN", value_from="vault:shop/token", scope="deploy")
    deployment = site.deployed()
    assert deployment.continue_rollout()
    settings.DEPLOYER_VALUE_COMMANDS = vault("exit 1")
    assert resume(deployment.pk)
    second = deployment.targets.get(server_name="web-2")
    assert (second.status, second.release_after, second.kept_out) == ("failed", "", "")
    assert "TOKEN could not be had from vault:shop/token" in second.error
    assert "touched" not in second.error


def test_config_files_of_another_name_of_a_machine_are_said_not_to_be_put_there(
    make_sshd: Any, git_repo: GitRepository
) -> None:
    site = Site(make_sshd(), git_repo, may_stop_last_healthy=True)
    other = make_server(site.machine, name="web-2")
    site.group.servers.add(other)
    Variable.objects.create(project=site.project, name="ROLE", value="other", server=other)
    ConfigFile.objects.create(project=site.project, path="~/other.conf", content="other", server=other)
    deployment = site.deployed()
    assert deployment.status == "success", deployment.error_message
    assert not (site.machine.home / "other.conf").exists()
    assert [line.split()[0] for line in site.ledger] == ["prepare", "before_all", "before", "restart", "after"]
    warned = deployment.log_lines.filter(level="warning").values_list("content", flat=True)
    told = "Of the config files of both names those of web-1 are put there, and no others: ~/other.conf"
    assert any(told in line for line in warned), [*warned]
    known = [ConfigState.of(site.project.pk, each.pk) for each in site.group.servers.order_by("name")]
    assert known[0].keys() == known[1].keys()  # what was left there is known under both names
    assert {row.path for row in known[1].values()} == {"~/app.conf", "in.conf"}
    site.becomes("second")
    alone = make_deployment(
        site.project, site.group, deployment_type="restart_only", only=frozenset({other.pk}), overwrite_changed=False
    )
    ConfigFile.objects.filter(server=other).delete()
    assert carry_out(alone.pk)
    assert [it.status for it in alone.targets.all()] == ["success"], alone.targets.get().error


@pytest.mark.parametrize("roll_back", [True, rarely(False)])
def test_an_end_behind_a_pause_leaves_or_puts_back_the_files_of_what_was_done(
    make_sshd: Any, git_repo: GitRepository, settings: Any, roll_back: bool
) -> None:
    settings.DEPLOYER_PARK_AFTER = 0
    site = Site(make_sshd(), git_repo, batches="1", pause_after="none", may_stop_last_healthy=True)
    other = make_sshd()
    site.group.servers.add(make_server(other, name="web-2"))
    site.role.server = None
    site.becomes("first")
    site.deployed()
    site.becomes("second")
    it = make_deployment(site.project, site.group, deployment_type="restart_only", pause_after="every")
    (site.machine.home / "ledger").write_text("")
    assert carry_out(it.pk)
    assert site.conf == ("role=second", "in=second")
    assert cancel(Deployment.objects.get(pk=it.pk), roll_back=roll_back)
    assert resume(it.pk)
    it = Deployment.objects.get(pk=it.pk)
    ends = [target.status for target in it.targets.order_by("server_name")]
    assert (it.status, ends) == ("cancelled", ["rolled_back" if roll_back else "success", "cancelled"])
    assert site.conf == (("role=first", "in=first") if roll_back else ("role=second", "in=second"))
    assert (other.home / "app.conf").read_text() == "role=first"
    undone = ["restart undo first role=first in=first", "after undo first role=first in=first"]
    assert site.ledger[3:] == (undone if roll_back else [])
    assert not Target.objects.exclude(kept_out="").exists()
    again = retry_failed(it, created_by=None, trigger="cli")
    assert carry_out(again.pk)
    again = Deployment.objects.get(pk=again.pk)
    assert again.status == "success", again.error_message
    assert (other.home / "app.conf").read_text() == "role=second"
    assert site.conf[0] == "role=second"
