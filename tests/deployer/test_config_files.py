"""Config files on real servers: written whole, checked, kept, put back, and never overwritten unsaid."""

import getpass
import os
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connections

from deployer.board.sightings import board, refresh
from deployer.engine.routines import carry_out, settle_lost
from deployer.engine.server_run import ServerRun
from deployer.engine.work import Work
from deployer.gates.digest import Content
from deployer.launching.asked import LaunchRequest
from deployer.launching.beforehand import preflight_of
from deployer.launching.rules import LaunchRefusedError
from deployer.models import ConfigState, Deployment, Target
from deployer.queue.sweep import take_over
from projects.commands import config_files
from projects.commands.config_files import File
from projects.models import ConfigFile, Project, Variable
from servers.errors import LinkLostError
from servers.models import Server, ServerGroup
from servers.ssh.shell import connect
from tests.deployer.test_run_as import STAND_IN
from tests.factories import make_deployment, make_group, make_project, make_server
from tests.parts.git import GitRepository
from tests.parts.programs import program, wait_for_end, wait_until
from tests.parts.sshd import OpenSSHServer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]

#: Takes down what its configuration is when it is restarted; each server has its own word on how that ends.
RESTART = 'cat ~/etc/app.conf >>~/runs 2>/dev/null; echo "--" >>~/runs\n[ ! -e ~/rule ] || . ~/rule\n'


class Site:
    """A project that is restarted by a script in the home of each of its servers, and reads ~/etc/app.conf."""

    def __init__(self, *machines: OpenSSHServer, **values: Any) -> None:
        self.machines = machines
        for machine in machines:
            (machine.home / "etc").mkdir()
            (machine.home / "restart.sh").write_text(RESTART)
        self.servers: list[Server] = [make_server(it, name=f"web-{n}") for n, it in enumerate(machines, start=1)]
        self.group: ServerGroup = make_group(*self.servers, name="web")
        self.project: Project = make_project(
            name=f"files-{os.getpid()}",
            **{"deploy_path": "", "deploy_script_path": "~/restart.sh", "script_timeout": 60} | values,
        )

    def file(self, path: str = "~/etc/app.conf", **values: Any) -> ConfigFile:
        row = ConfigFile(project=self.project, path=path, **{"content": "port=80\n"} | values)
        row.full_clean()
        row.save()
        return row

    def launched(self, deployment_type: str = "restart_only", **values: Any) -> Deployment:
        return make_deployment(self.project, self.group, deployment_type=deployment_type, **values)

    def deployed(self, deployment_type: str = "restart_only", **values: Any) -> Deployment:
        deployment = self.launched(deployment_type, **values)
        assert carry_out(deployment.pk)
        return Deployment.objects.get(pk=deployment.pk)

    def at(self, number: int = 1) -> Path:
        return self.machines[number - 1].home / "etc" / "app.conf"

    def runs(self, number: int = 1) -> str:
        return (self.machines[number - 1].home / "runs").read_text()


@pytest.fixture
def site(make_sshd: Callable[..., OpenSSHServer]) -> Site:
    return Site(make_sshd())


def become_possible(machine: OpenSSHServer) -> str:
    """A user that the login can become: who is not root can only become themselves."""
    if not os.getuid():
        program("sudo", "sudo")
        return "nobody"
    (machine.home / "bin").mkdir()
    (machine.home / "bin" / "sudo").write_text(STAND_IN)
    (machine.home / "bin" / "sudo").chmod(0o755)
    return getpass.getuser()


def target(deployment: Deployment, name: str = "web-1") -> Target:
    return deployment.targets.get(server_name=name)


def log_of(deployment: Deployment) -> str:
    return "\n".join(deployment.log_lines.order_by("id").values_list("content", flat=True))


def test_a_restart_puts_a_file_there_before_the_script_runs_and_leaves_it_alone_the_next_time(site):
    site.file(mode="0600")
    first = site.deployed()
    assert first.status == "success", first.error_message
    assert site.at().read_text() == "port=80\n"
    assert stat.S_IMODE(site.at().stat().st_mode) == 0o600
    assert site.runs() == "port=80\n--\n"
    inode = site.at().stat().st_ino
    second = site.deployed()
    assert second.status == "success"
    assert site.at().stat().st_ino == inode
    row = ConfigState.objects.get()
    assert (row.path, row.deployment_id, row.coming) == ("~/etc/app.conf", first.pk, "")


def test_a_file_that_nobody_of_ours_put_there_is_not_overwritten_unless_somebody_says_so(site):
    site.at().write_text("by hand\n")
    site.at().chmod(0o604)
    site.file()
    refused = site.deployed()
    assert refused.status == "failed"
    assert "~/etc/app.conf" in target(refused).error
    assert "there is one already that deployer did not put there" in target(refused).error
    assert site.at().read_text() == "by hand\n"
    assert not (site.machines[0].home / "runs").exists()
    done = site.deployed(overwrite_changed=True)
    assert done.status == "success", done.error_message
    assert site.at().read_text() == "port=80\n"
    assert "Config file ~/etc/app.conf is overwritten" in log_of(done)


def test_a_file_that_was_changed_by_hand_since_is_not_overwritten_unsaid(site):
    file = site.file()
    first = site.deployed()
    site.at().write_text("port=81 # by hand\n")
    file.content = "port=82\n"
    file.save()
    refused = site.deployed()
    assert f"it was changed by hand since deployment #{first.pk}" in target(refused).error
    assert site.at().read_text() == "port=81 # by hand\n"
    assert site.deployed(overwrite_changed=True).status == "success"
    assert site.at().read_text() == "port=82\n"


def test_what_somebody_has_written_by_hand_just_as_it_is_to_be_is_taken_over(site):
    file = site.file()
    site.deployed()
    site.at().write_text("port=82\n")
    site.at().chmod(0o640)
    file.content = "port=82\n"
    file.save()
    assert site.deployed().status == "success"
    site.at().write_text("port=83\n")
    assert site.deployed().status == "failed"


def test_a_file_that_was_deleted_by_hand_is_written_again_and_that_is_said(site):
    site.file()
    site.deployed()
    site.at().unlink()
    again = site.deployed()
    assert again.status == "success"
    assert site.at().read_text() == "port=80\n"
    assert "was deleted by hand" in log_of(again)


def test_a_check_that_refuses_the_new_content_leaves_everything_as_it_was(site):
    one = site.file(check_command="grep -q port {file} || { echo no port in it; exit 3; }")
    other = site.file("~/etc/other.conf", content="a\n", position=1)
    assert site.deployed().status == "success"
    runs = site.runs()
    one.content, other.content = "nothing\n", "b\n"
    one.save()
    other.save()
    refused = site.deployed()
    assert refused.status == "failed"
    assert "its check refused the new content (no port in it)" in target(refused).error
    assert (site.at().read_text(), site.at().with_name("other.conf").read_text()) == ("port=80\n", "a\n")
    assert site.runs() == runs
    assert [path.name for path in site.at().parent.iterdir() if path.name.startswith(".deployer-new")] == []
    one.content = "port=90\n"
    one.save()
    assert site.deployed().status == "success"
    assert (site.at().read_text(), site.at().with_name("other.conf").read_text()) == ("port=90\n", "b\n")


def test_a_check_runs_beside_the_old_file_in_its_folder(site):
    site.at().with_name("part.conf").write_text("here\n")
    seen = '[ "$(cat part.conf)" = here ] && [ "$(dirname {file})" = "$PWD" ] && [ ! -e app.conf ] && [ -s {file} ]'
    site.file(check_command=seen)
    assert site.deployed().status == "success"


def test_a_template_gets_the_variables_of_the_deployment_and_the_facts_of_the_server(make_sshd):
    site = Site(make_sshd(), make_sshd())
    Variable.objects.create(project=site.project, name="TOKEN", value='a "b"', is_secret=True)
    Variable.objects.create(project=site.project, name="ONLY_BUILD", value="x", scope="build")
    text = '{"token": {{ TOKEN | json }}, "at": "{{ DEPLOY_SERVER }} {{ DEPLOY_GROUPS }} {{ DEPLOY_HOST }}"}\n'
    site.file(content=text, is_template=True)
    done = site.deployed()
    assert done.status == "success", done.error_message
    assert site.at(1).read_text() == '{"token": "a \\"b\\"", "at": "web-1 web 127.0.0.1"}\n'
    assert '"web-2 web' in site.at(2).read_text()


def test_the_most_specific_file_wins_and_a_file_of_a_group_goes_to_its_servers_alone(make_sshd):
    site = Site(make_sshd(), make_sshd(), make_sshd())
    some = make_group(*site.servers[:2], name="some")
    site.file(content="all\n")
    site.file(content="some\n", server_group=some)
    site.file(content="two\n", server=site.servers[1])
    assert site.deployed().status == "success"
    assert [site.at(n).read_text() for n in (1, 2, 3)] == ["some\n", "two\n", "all\n"]


def test_nothing_of_a_secret_file_or_of_a_secret_in_one_is_in_the_log_or_in_the_list_of_processes(site):
    Variable.objects.create(project=site.project, name="TOKEN", value="s3cret-token", is_secret=True)
    site.file(content="key={{ TOKEN }}\n", is_template=True, check_command="cat {file}; exit 3")
    site.file("~/etc/whole.conf", content="password: hunter22\n", is_secret=True)
    seen = '#!/bin/sh\ncat /proc/[0-9]*/cmdline >>~/seen 2>/dev/null\nexec /bin/dd "$@"\n'
    (site.machines[0].home / "bin").mkdir()
    (site.machines[0].home / "bin" / "dd").write_text(seen)
    (site.machines[0].home / "bin" / "dd").chmod(0o755)
    refused = site.deployed()
    assert "its check refused the new content (key=••••••)" in target(refused).error
    assert "s3cret-token" not in log_of(refused) + refused.error_message
    listed = (site.machines[0].home / "seen").read_bytes()
    assert b"dd" in listed
    assert b"s3cret-token" not in listed
    assert b"hunter22" not in listed


def test_a_file_keeps_its_owner_and_a_link_leads_to_the_file_that_is_replaced(site):
    real = site.at().with_name("real.conf")
    real.write_text("port=80\n")
    site.at().symlink_to("real.conf")
    site.file(content="port=81\n", mode="0644")
    assert site.deployed(overwrite_changed=True).status == "success"
    assert site.at().is_symlink()
    assert real.read_text() == "port=81\n"


def test_a_file_on_the_machine_is_written_read_and_checked_by_the_user_that_the_scripts_run_as(make_sshd):
    machine = make_sshd()
    user = become_possible(machine)
    folder = Path(tempfile.mkdtemp(prefix="deployer-files-"))
    folder.chmod(0o700)
    shutil.chown(folder, user)
    site = Site(machine, run_as=user)
    (machine.home / "restart.sh").write_text(f"cat {folder}/app.conf >>{folder}/runs\n")
    for part in (machine.home, *machine.home.parents):
        if part.is_relative_to(machine.folder):
            part.chmod(0o755)
    try:
        file = site.file(
            f"{folder}/app.conf", mode="0600", check_command=f'[ "$(id -un)" = {user} ] && [ -r {{file}} ]'
        )
        done = site.deployed()
        assert done.status == "success", done.error_message
        assert (folder / "app.conf").owner() == user
        assert (folder / "runs").read_text() == "port=80\n"
        (folder / "app.conf").write_text("by hand\n")
        file.content = "port=81\n"
        file.save()
        assert "was changed by hand since" in target(site.deployed()).error
        deployment = site.launched(overwrite_changed=True)
        put_without_restart(deployment)
        assert (folder / "app.conf").read_text() == "port=81\n"
        lost(deployment)
        assert (folder / "app.conf").read_text() == "by hand\n"
    finally:
        shutil.rmtree(folder)


# --- in the release ----------------------------------------------------------------------------------


@pytest.fixture
def release_site(make_sshd: Callable[..., OpenSSHServer], git_repo: GitRepository) -> Site:
    git_repo.commit({f"data/{n}": f"{n}\n" * 50 for n in range(40)})
    git_repo.commit({"config/app.conf": "port=1 # of the repository\n", "VERSION": "one"})
    values = {"git_url": git_repo.url, "deploy_path": "~/shop"}
    return Site(make_sshd(), make_sshd(), batches="1, 100%", **values)


def in_release(site: Site, number: int = 1, release: str = "current") -> Path:
    root = site.machines[number - 1].home / "shop"
    return (root / release if release == "current" else root / "releases" / release) / "config" / "app.conf"


def test_a_relative_file_lies_in_each_release_in_place_of_the_one_that_came_with_it(release_site, git_repo):
    site = release_site
    file = site.file("config/app.conf", content="port=2 {{ DEPLOY_RELEASE }}\n", is_template=True)
    site.file("config/deep/er.conf", content="x\n")
    first = site.deployed("full")
    assert first.status == "success", first.error_message
    one = str(first.release)
    assert in_release(site).read_text() == f"port=2 {one}\n"
    assert (in_release(site).parent / "deep" / "er.conf").read_text() == "x\n"
    file.content = "port=3 {{ DEPLOY_RELEASE }}\n"
    file.save()
    git_repo.commit({"VERSION": "two"})
    second = site.deployed("full")
    assert second.status == "success", second.error_message
    assert "as its difference from" in log_of(second)
    assert "was changed on the server" not in log_of(second)
    assert in_release(site).read_text() == f"port=3 {second.release}\n"
    assert in_release(site, release=one).read_text() == f"port=2 {one}\n"


def test_a_restart_writes_into_the_live_release_and_a_change_by_hand_there_is_told_too(release_site):
    site = release_site
    assert site.deployed("full").status == "success"
    file = site.file("config/app.conf", content="port=2\n")
    done = site.deployed()
    assert done.status == "success", done.error_message  # the one that was there came with the release
    assert in_release(site).read_text() == "port=2\n"
    in_release(site, 2).write_text("by hand\n")
    file.content = "port=3\n"
    file.save()
    refused = site.deployed(max_failures=5)
    assert [target(refused, name).status for name in ("web-1", "web-2")] == ["success", "failed"]
    assert "was changed by hand since" in target(refused, "web-2").error
    again = site.deployed("full", overwrite_changed=True)
    assert again.status == "success", again.error_message
    assert in_release(site, 2).read_text() == "port=3\n"


def test_files_go_back_with_their_release_where_too_many_servers_fail(release_site, git_repo):
    site = release_site
    site.project.auto_rollback = True
    site.project.save()
    own = site.file("config/app.conf", content="port=2\n")
    machine = site.file(content="port=2\n")
    first = site.deployed("full")
    assert first.status == "success", first.error_message
    (site.machines[1].home / "rule").write_text("! grep -q 3 ~/etc/app.conf\n")
    for file in (own, machine):
        file.content = "port=3\n"
        file.save()
    git_repo.commit({"VERSION": "two"})
    failed = site.deployed("full")
    assert [target(failed, name).status for name in ("web-1", "web-2")] == ["rolled_back", "rolled_back"]
    for number in (1, 2):
        assert in_release(site, number).read_text() == "port=2\n"
        assert site.at(number).read_text() == "port=2\n"
    assert {row.deployment_id for row in ConfigState.objects.filter(release="")} == {first.pk}
    (site.machines[1].home / "rule").unlink()
    assert site.deployed("full").status == "success"
    assert site.at(2).read_text() == "port=3\n"


def test_a_switch_that_cannot_be_made_puts_the_files_of_the_machine_back(release_site, git_repo):
    site = release_site
    site.project.deploy_script_path = "restart.sh"
    site.project.save()
    git_repo.commit({"restart.sh": "true"})
    file = site.file(content="port=2\n")
    assert site.deployed("full").status == "success"
    file.content = "port=3\n"
    file.save()
    (git_repo.path / "restart.sh").unlink()
    git_repo.commit({"VERSION": "two"})
    failed = site.deployed("full")
    assert "The restart was not started" in target(failed).error
    assert site.at().read_text() == "port=2\n"


def test_a_folder_of_a_release_that_leads_out_of_it_is_not_followed(release_site):
    site = release_site
    assert site.deployed("full").status == "success"
    outside = site.machines[0].home / "outside"
    outside.mkdir()
    (site.machines[0].home / "shop" / "current" / "out").symlink_to(outside)
    site.file("out/app.conf", content="x\n")
    failed = site.deployed()
    assert "its folder leads out of the release" in target(failed).error
    assert not list(outside.iterdir())


# --- ways back ---------------------------------------------------------------------------------------


#: A check that waits until it is told to go on.
WAITS = "touch ~/checking; n=0; until [ -e ~/go ] || [ $n = 600 ]; do sleep 0.05; n=$((n+1)); done; [ -s {file} ]"


def in_the_middle(site: Site, act: Callable[[], Any]) -> threading.Thread:
    """Do ``act`` while the check of the next deployment waits, and let it go on."""
    home = site.machines[0].home

    def work() -> None:
        try:
            wait_until((home / "checking").exists, "the check to run")
            act()
        finally:
            (home / "go").touch()
            connections.close_all()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_cancelled_between_the_files_and_the_restart_they_are_put_back(site):
    file = site.file()
    site.deployed()
    runs = site.runs()
    file.content, file.check_command = "port=81\n", WAITS
    file.save()
    deployment = site.launched()

    def cancel() -> None:
        deployment.request_cancel()
        wait_until(lambda: "Cancel requested" in log_of(deployment), "the worker to hear of it")

    in_the_middle(site, cancel)
    assert carry_out(deployment.pk)
    assert target(deployment).status == "cancelled"
    assert (site.at().read_text(), site.runs()) == ("port=80\n", runs)
    assert "Config files put back: ~/etc/app.conf" in log_of(deployment)
    assert ConfigState.objects.get().coming == ""
    assert not (site.at().parent / ".deployer").exists()


def test_a_restart_only_launch_that_fails_is_put_back_on_its_files_where_that_is_chosen(make_sshd):
    site = Site(make_sshd(), make_sshd(), auto_rollback=True, batches="1, 100%")
    file = site.file()
    assert site.deployed().status == "success"
    (site.machines[1].home / "rule").write_text("! grep -q 81 ~/etc/app.conf\n")
    file.content = "port=81\n"
    file.save()
    failed = site.deployed()
    assert [target(failed, name).status for name in ("web-1", "web-2")] == ["rolled_back", "rolled_back"]
    assert [site.at(n).read_text() for n in (1, 2)] == ["port=80\n", "port=80\n"]
    assert site.runs(1) == "port=80\n--\nport=81\n--\nport=80\n--\n"
    for row in ConfigState.objects.all():
        assert row.coming == ""
    (site.machines[1].home / "rule").unlink()
    file.content = "port=80\n"
    file.save()
    assert "all are as they should be" in log_of(site.deployed())


def test_without_that_choice_a_server_that_fails_keeps_the_new_file(site):
    file = site.file()
    site.deployed()
    (site.machines[0].home / "rule").write_text("exit 4\n")
    file.content = "port=81\n"
    file.save()
    assert target(site.deployed()).status == "failed"
    assert site.at().read_text() == "port=81\n"


def lost(deployment: Deployment) -> None:
    """Its worker is lost, and another one asks the servers what is true."""
    deployment.refresh_from_db()
    assert take_over(deployment, "was lost")
    assert settle_lost(deployment.pk)


def test_a_worker_that_is_lost_while_files_are_checked_replaces_nothing_afterwards(site):
    file = site.file()
    site.deployed()
    file.content, file.check_command = "port=81\n", WAITS
    file.save()
    deployment = site.launched()
    other = in_the_middle(site, lambda: lost(deployment))
    carry_out(deployment.pk)
    wait_for_end(other)
    assert target(deployment).status == "skipped"
    wait_until(lambda: not list(site.at().parent.glob(".deployer-new*")), "the script to end")
    assert site.at().read_text() == "port=80\n"
    assert ConfigState.objects.get().coming == ""


def put_without_restart(deployment: Deployment) -> None:
    """What a worker has done that is lost between the files and the restart."""
    assert deployment.claim_for_worker()
    it = ServerRun(Work(deployment), target(deployment))
    it.target.deployment = deployment
    it.connect()
    it.preflight()
    it.put_files()
    it.close()


@pytest.mark.parametrize("had_one", [True, False])
def test_a_worker_that_is_lost_between_the_files_and_the_restart_leaves_what_was_there(site, had_one):
    file = site.file()
    if had_one:
        site.deployed()
    file.content = "port=81\n"
    file.save()
    deployment = site.launched()
    put_without_restart(deployment)
    assert site.at().read_text() == "port=81\n"
    lost(deployment)
    assert target(deployment).status == "skipped"
    assert "the config files were put back" in target(deployment).error
    assert (site.at().read_text() if had_one else not site.at().exists()) == ("port=80\n" if had_one else True)
    assert [row.coming for row in ConfigState.objects.all()] == ([""] if had_one else [])
    assert site.deployed().status == "success"


def test_what_somebody_has_changed_since_is_not_put_back(site):
    file = site.file()
    site.deployed()
    file.content = "port=81\n"
    file.save()
    deployment = site.launched()
    put_without_restart(deployment)
    site.at().write_text("mended by hand\n")
    lost(deployment)
    assert site.at().read_text() == "mended by hand\n"
    assert "was changed by somebody else since: it is left as it is" in log_of(deployment)
    (kept,) = (site.at().parent / ".deployer").glob("*.was.app.conf")
    assert kept.read_text() == "port=80\n"


# --- killed ------------------------------------------------------------------------------------------


@pytest.mark.long
def test_200_writes_that_are_killed_leave_no_half_file_and_lose_no_previous_one(sshd):
    folder = sshd.home / "etc"
    folder.mkdir()
    old, new = ("old line\n" * 4000, "new line\n" * 5000)
    random = Random(19)
    ends: set[tuple[bool, bool]] = set()
    with connect(make_server(sshd)) as link:

        def run(text: str, seconds: float = 0.0) -> bool:
            """Whether ``text`` came to its end before its whole session was killed."""
            killer = f"(sleep {seconds:.4f}; kill -s KILL -- -$$) >/dev/null 2>&1 &\n" if seconds else ""
            try:
                code = link.execute(f"{killer}{text}", lambda _s, _d: None, deadline=time.monotonic() + 60)
            except LinkLostError:
                return False
            assert code == 0
            return True

        for n in range(200):
            paths = [folder / "one.conf", folder / "two.conf"]
            for path in paths:
                path.write_text(old)
            key = f"{n:032x}"
            files = [File(str(path), new, "0640", before=File("", old).sha256) for path in paths]
            ended = run(config_files.write(key, files), random.uniform(0.001, 0.09))
            found = [path.read_text() for path in paths]
            assert {*found} <= {old, new}
            ends.add((ended, found[0] == new))
            back = config_files.put_back(key, [(it.path, "", it.sha256) for it in files])
            run(back, random.uniform(0.001, 0.05))
            assert {path.read_text() for path in paths} <= {old, new}
            assert run(back)
            assert [path.read_text() for path in paths] == [old, old]
            shutil.rmtree(sshd.home / ".deployer" / "runs" / key, ignore_errors=True)
    assert {(True, True), (False, False)} <= ends
    assert sorted(path.name for path in folder.iterdir()) == ["one.conf", "two.conf"]


def test_a_write_that_was_killed_before_it_kept_anything_leaves_nothing_behind(sshd):
    folder = sshd.home / "left"
    folder.mkdir()
    path = folder / "one.conf"
    path.write_text("old\n")
    written = File(str(path), "new\n", "0640", before=File("", "old\n").sha256)
    back = config_files.put_back("0" * 32, [(str(path), "", written.sha256)])
    for left in ([], [f"{'0' * 32}.was.one.conf.part"]):
        (folder / ".deployer").mkdir()
        for name in left:
            (folder / ".deployer" / name).write_text("ol")
        with connect(make_server(sshd)) as link:
            assert link.execute(back, lambda _s, _d: None, deadline=time.monotonic() + 60) == 0
        assert [it.name for it in folder.iterdir()] == ["one.conf"]
        assert path.read_text() == "old\n"


# --- told before, and found afterwards -----------------------------------------------------------------


def found_before(site: Site, deployment_type: str = "restart_only", **values: Any) -> list[str]:
    request = LaunchRequest(site.project, [site.group], deployment_type, **values)
    return [f"{it.level} {it.server} {it}" for it in preflight_of(request) if "onfig file" in str(it)]


def test_a_launch_is_told_beforehand_of_the_files_that_it_would_overwrite(make_sshd):
    site = Site(make_sshd(), make_sshd())
    file = site.file()
    assert found_before(site) == []
    done = site.deployed()
    site.at(2).write_text("by hand\n")
    file.content = "port=81 {{ DEPLOY_ID }}\n"
    file.is_template = True
    file.save()
    (told,) = found_before(site)
    assert told.startswith("error web-2 Config file ~/etc/app.conf would be overwritten: it was changed by hand since ")
    assert f"#{done.pk}" in told
    (told,) = found_before(site, overwrite_changed=True)
    assert told.startswith("warning web-2 Config file ~/etc/app.conf will be overwritten")
    site.at(2).unlink()
    (told,) = found_before(site)
    assert told == "warning web-2 Config file ~/etc/app.conf was deleted by hand: it is written again."


def test_a_file_whose_folder_is_missing_is_an_error_beforehand(site):
    site.file("~/nowhere/app.conf")
    (told,) = found_before(site)
    assert "~/nowhere/app.conf cannot be put there: its folder does not exist" in told


def test_the_board_finds_what_was_changed_deleted_or_hidden_by_hand(make_sshd):
    site = Site(make_sshd(), make_sshd())
    site.file()
    assert site.deployed().status == "success"
    refresh(site.project)
    assert [view.drift for view in board(site.project)] == [[], []]
    site.at(1).write_text("by hand\n")
    site.at(2).unlink()
    refresh(site.project)
    assert [view.drift for view in board(site.project)] == [
        ["config file ~/etc/app.conf was changed by hand"],
        ["config file ~/etc/app.conf was deleted by hand"],
    ]
    assert [view.is_bad for view in board(site.project)] == [True, True]
    assert site.deployed(overwrite_changed=True).status == "success"
    refresh(site.project)
    assert [view.drift for view in board(site.project)] == [[], []]


def test_two_groups_that_give_one_server_a_file_are_refused_when_saved_and_at_launch(site):
    one, two = make_group(name="one"), make_group(site.servers[0], name="two")
    site.file(server_group=one)
    site.file(server_group=two, content="two\n")
    one.servers.add(site.servers[0])
    told = "web-1 is in the groups “one” and “two”, and both have a file ~/etc/app.conf"
    with pytest.raises(LaunchRefusedError, match=told):
        site.launched()
    site.file(server=site.servers[0], content="its own\n")
    assert site.deployed().status == "success"
    ConfigFile.objects.get(server=site.servers[0]).delete()
    ConfigFile.objects.get(server_group=two).delete()
    with pytest.raises(ValidationError, match=told):
        site.file(server_group=two)


def test_a_name_that_is_not_defined_is_refused_when_saved_and_at_launch(site):
    Variable.objects.create(project=site.project, name="PORT", value="80")
    with pytest.raises(ValidationError, match="line 2: “PROT” is not defined"):
        site.file(content="\nport={{ PROT }}\n", is_template=True)
    site.file(content="port={{ PORT }}\n", is_template=True)
    Variable.objects.all().delete()
    with pytest.raises(LaunchRefusedError, match="“PORT” is not defined"):
        site.launched()


def test_an_approval_is_bound_to_the_files_and_to_what_is_overwritten(site):
    def digest(**values: Any) -> str:
        plan = LaunchRequest(site.project, [site.group], "restart_only", **values).plan()
        return Content("", "restart_only", plan, ()).digest()

    bare = digest()
    assert digest(overwrite_changed=True) == bare
    file = site.file()
    with_file = digest()
    assert len({bare, with_file, digest(overwrite_changed=True)}) == 3
    file.content = "port=82\n"
    file.save()
    assert digest() != with_file
