"""Scripts as another user: what they are given, who they are, how they end, and how they are known again."""

import getpass
import os
import pwd
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.core.exceptions import ValidationError

from deployer.engine.routines import carry_out
from deployer.models import Deployment
from projects.models import Project
from projects.validators import validate_user_name
from servers.errors import StoppedError
from servers.models import Server
from servers.shell import Script
from servers.ssh.shell import connect
from servers.supervised.run import SupervisedRun
from tests.factories import make_deployment, make_group, make_project, make_server
from tests.parts.programs import PATIENCE, kill_all, processes_with, program, wait_until
from tests.parts.sshd import OpenSSHServer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]

#: Who is not root cannot become somebody else: then sudo does nothing but what it is asked to run.
STAND_IN = '#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec env -i PATH="$PATH" HOME=/ "$@"\n'


@pytest.fixture
def sshd(make_sshd: Callable[..., OpenSSHServer]) -> OpenSSHServer:
    it = make_sshd()
    program("sudo", "sudo")
    if os.getuid():
        (it.home / "bin").mkdir(exist_ok=True)
        (it.home / "bin" / "sudo").write_text(STAND_IN)
        (it.home / "bin" / "sudo").chmod(0o755)
    return it


@pytest.fixture
def user() -> str:
    return getpass.getuser() if os.getuid() else "nobody"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everybody may write into."""
    path = Path(tempfile.mkdtemp(prefix="deployer-run-as-"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


def test_the_script_is_that_user_with_its_variables_and_no_list_of_processes_shows_them(sshd, user, folder, tmp_path):
    secret = f"it's \"$secret`\\ {secrets.token_hex(4)}\nsecond line"
    text = (
        'id -un; umask; pwd; echo "$HOME"; printf \'%s|\' "$SECRET"; read -r line || echo no input\n'
        "cat /proc/[0-9]*/cmdline >&2; exit 7"
    )
    said: dict[str, bytes] = {"stdout": b"", "stderr": b""}

    def hear(stream: str, data: bytes) -> None:
        said[stream] += data

    with connect(make_server(sshd)) as shell:
        script = Script(text, {"SECRET": secret}, str(folder), user)
        assert SupervisedRun(shell).run(script, hear, timeout=PATIENCE, stop=threading.Event()) == 7
    home = pwd.getpwnam(user).pw_dir if not os.getuid() else "/"
    assert said["stdout"].decode() == f"{user}\n0022\n{folder}\n{home}\n{secret}|no input\n"
    shown = said["stderr"].decode(errors="replace")
    assert str(folder) in shown  # it did see the script's own line
    assert secret.split()[1] not in shown


def test_a_forced_end_leaves_none_of_its_processes(sshd, user, folder):
    marker = f"RUN_AS_TEST={secrets.token_hex(8)}"
    name, _equals, value = marker.partition("=")
    text = "trap '' TERM; setsid sleep 1000 & (trap '' TERM; sleep 1001) & echo ready; wait"
    stop = threading.Event()
    try:
        with connect(make_server(sshd)) as shell:
            script = Script(text, {name: value}, str(folder), user)
            with pytest.raises(StoppedError):
                SupervisedRun(shell).run(
                    script, lambda _stream, data: stop.set() if b"ready" in data else None, timeout=PATIENCE, stop=stop
                )
        assert not processes_with(marker)
    finally:
        kill_all(processes_with(marker))


@pytest.fixture
def project(git_repo, folder: Path, user: str) -> Iterator[Project]:
    """Its application runs in its release, as that user."""
    name = f"run-as-{secrets.token_hex(6)}"
    (folder / "restart.sh").write_text(
        f"[ -f {folder}/pid ] && kill $(cat {folder}/pid)\ncd {folder}/shop/current/\n"
        f"(exec -a {name} sleep 1000) </dev/null >/dev/null 2>&1 &\necho $! >{folder}/pid\n"
    )
    yield make_project(
        git_url=git_repo.url,
        deploy_path=f"{folder}/shop",
        deploy_script_path=f"{folder}/restart.sh",
        process_name=name,
        run_as=user,
        keep_releases=1,
    )
    if (folder / "pid").exists():
        kill_all([int((folder / "pid").read_text())])


def deployed(project: Project, server: Server) -> Deployment:
    deployment = make_deployment(project, make_group(server))
    assert carry_out(deployment.pk)
    deployment.refresh_from_db()
    return deployment


def test_the_process_of_that_user_is_proved_and_the_release_it_runs_from_is_kept(
    project, sshd, user, folder, git_repo, queue_server
):
    server = make_server(sshd)
    versions = []
    for text in ("one", "two"):
        git_repo.commit({"version": text})
        deployment = deployed(project, server)
        assert deployment.status == "success", deployment.error_message
        versions.append(str(deployment.release))
    proof = deployment.targets.get().proof
    assert proof["verdict"] == "replaced"
    pid = proof["after"][0]["pid"]
    assert Path(f"/proc/{pid}").stat().st_uid == pwd.getpwnam(user).pw_uid
    assert proof["after"][0]["folder"] == f"{folder}/shop/releases/{versions[1]}"
    # From now on the script restarts nothing: what runs is the second release, however many follow.
    (folder / "restart.sh").write_text("echo nothing\n")
    Project.objects.update(process_name="", script_reloads=True)
    project.refresh_from_db()
    for text in ("three", "four", "five"):
        git_repo.commit({"version": text})
        deployed(project, server)
    wait_until(lambda: not (folder / "shop" / "releases" / versions[0]).exists(), "the first one to be removed")
    assert (folder / "shop" / "releases" / versions[1]).is_dir()


def test_a_login_that_may_not_become_that_user_is_told_before_anything_is_done(project, sshd, queue_server):
    Project.objects.update(run_as="no-such-user-here")
    project.refresh_from_db()
    bin_folder = sshd.home / "bin"
    bin_folder.mkdir(exist_ok=True)
    (bin_folder / "sudo").write_text("#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n")
    (bin_folder / "sudo").chmod(0o755)
    deployment = deployed(project, make_server(sshd))
    assert deployment.status == "failed"
    error = deployment.targets.get().error
    assert "cannot be run as no-such-user-here" in error
    assert "NOPASSWD" in error


@pytest.mark.parametrize("name", ["-u", "a b", "root;id", "$(id)", "a/b", "#0", "", "x" * 33, "ü"])
def test_a_name_that_is_no_user_is_refused(name):
    with pytest.raises(ValidationError):
        validate_user_name(name)
