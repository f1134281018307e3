"""SSH servers, a database and deployments for the benchmarks, all of them real and on this machine."""

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from django.conf import settings

from bench.proxies import Proxies
from bench.sides import Side
from deployer.engine.rollout import on_every_server
from deployer.engine.routines import carry_out
from deployer.engine.run import Run
from deployer.engine.server_run import ServerRun
from deployer.models import Deployment, Release
from deployer.releases.archives import remember
from servers.models import Server
from tests.factories import make_credential, make_deployment, make_group, make_project, make_server
from tests.parts.git import GitRepository
from tests.parts.sshd import OpenSSHServer

SSH_OPTIONS = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
#: What credentials are for: also for proxies before a server.
LOOPBACK = "127.0.0.1:*"
#: Each server sees its own processes alone, as machines do.
MACHINE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
#: The other tools are in an environment of their own.
TOOLS = Path(__file__).resolve().parents[1] / ".venv-bench" / "bin"


class World:
    """``size`` SSH servers with a home folder each, and a project whose build copies ``payload``.

    What other tools run here belongs to the side ``platform``, the servers and what runs on them to ``there``.
    """

    def __init__(self, size: int, wrapper: Sequence[str] = ()) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="deployer-bench-"))
        self.payload = self.folder / "payload"
        self.payload.mkdir()
        self.platform, self.there = Side("platform"), Side("servers")
        self._all = [OpenSSHServer(wrapper=(*self.there.words, *wrapper)) for _number in range(size)]
        self.servers = [make_server(sshd, credential=make_credential(sshd, hosts=LOOPBACK)) for sshd in self._all]
        self.take_first(size)

    def take_first(self, number: int) -> None:
        """Let everything that is done from now on be done on so many of the servers."""
        self.sshds = self._all[:number]
        self.ports = [sshd.port for sshd in self.sshds]
        self.group = make_group(*self.servers[:number])

    def close(self) -> None:
        """Stop everything and delete it."""
        for sshd in self._all:
            sshd.close()
        for side in (self.platform, self.there):
            side.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def through_proxies(self, delay: float = 0.0, uplink: float = 0.0) -> Iterator[Proxies]:
        """All servers are reached through a proxy of their own meanwhile, which counts and adds ``delay`` each way.

        ``uplink`` is how many bytes a second go to all of them together at most, if that is limited.
        """
        proxies = Proxies([sshd.port for sshd in self.sshds], delay, uplink)
        self._reach_at(proxies.ports)
        try:
            yield proxies
        finally:
            self._reach_at([sshd.port for sshd in self.sshds])
            proxies.close()

    def _reach_at(self, ports: list[int]) -> None:
        self.ports = ports
        for server, port in zip(self.servers, ports, strict=False):
            Server.objects.filter(pk=server.pk).update(port=port)

    def everywhere(self, command: str) -> None:
        """Run a shell command once a server, all side by side.

        ``{login}``, ``{port}``, ``{key}``, ``{home}`` and ``{ssh}`` (with its options) are the server's.
        """
        running = []
        for sshd, port in zip(self.sshds, self.ports, strict=True):
            key = sshd.folder / "login_key"
            text = command.format(
                port=port,
                key=key,
                home=sshd.home,
                ssh=f"ssh {SSH_OPTIONS} -i {key} -p {port}",
                login=f"{sshd.username}@{sshd.host}",
            )
            running.append(subprocess.Popen(["bash", "-o", "pipefail", "-c", text], cwd=self.payload))
        for process in running:
            if process.wait():
                raise SystemExit(f"{process.args!r} ended with status {process.returncode}")

    def inventory(self) -> Path:
        """The servers as Ansible wants to have them listed."""
        path = self.folder / "inventory.ini"
        path.write_text(
            "".join(
                f"server-{port} ansible_host={sshd.host} ansible_port={port} ansible_user={sshd.username} "
                f"ansible_ssh_private_key_file={sshd.folder}/login_key home={sshd.home} "
                "ansible_python_interpreter=/usr/bin/python3\n"
                for sshd, port in zip(self.sshds, self.ports, strict=True)
            )
        )
        return path

    def run_here(self, words: Sequence[object], **environment: object) -> None:
        """Run another tool on the platform's side."""
        run_tool([*self.platform.words, *words], **environment)

    def ansible(self, module: str, arguments: str) -> None:
        """Run a module of Ansible on every server at once; no connection is kept for the next time."""
        words = [TOOLS / "ansible", "all", "-i", self.inventory(), "-f", len(self.sshds), "-m", module, "-a", arguments]
        self.run_here(
            words,
            ANSIBLE_HOST_KEY_CHECKING="False",
            ANSIBLE_HOME=self.folder / "ansible",
            ANSIBLE_SSH_CONTROL_PATH_DIR=tempfile.mkdtemp(dir=self.folder),
        )


class Releases(World):
    """A world with a project that is built of ``payload``."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        settings.DEPLOYER_BUILD_ISOLATION = "off"  # a sandbox has a /dev/shm of its own; no build is measured
        script = self.folder / "restart.sh"
        script.write_text("echo restarted\n")
        self.project = make_project(
            git_url=GitRepository(self.folder / "repository").url,
            deploy_path="~/shop",
            deploy_script_path=str(script),
            build_script=f"rm -f index.html && cp -a {self.payload}/. .",
            script_timeout=3600,
        )

    def build(self) -> Release:
        """A release of what the payload holds now, live on every server."""
        deployment = make_deployment(self.project, self.group, rebuild=True)
        carry_out(deployment.pk)
        deployment.refresh_from_db()
        if deployment.status != Deployment.Status.SUCCESS or deployment.release is None:
            raise SystemExit(f"the benchmark's own deployment failed: {deployment.error_message}")
        remember(deployment.release)  # as right behind its build: what this process has stored, it knows
        return deployment.release

    def forget(self, version: str) -> None:
        """Take the release ``version`` and what the other tools have sent away from every server."""
        for sshd in self.sshds:
            shutil.rmtree(sshd.home / "shop" / "releases" / version, ignore_errors=True)
            shutil.rmtree(sshd.home / "other", ignore_errors=True)
            (sshd.home / "other").mkdir()

    def stage(self, release: Release) -> None:
        """What deployer does to bring a stored release to every server: log in, send, unpack, verify."""
        launched = make_deployment(self.project, self.group, release=release, branch="main")
        deployment = Deployment.objects.select_related("project", "release").get(pk=launched.pk)
        if not deployment.claim_for_worker():
            raise SystemExit("somebody else took the benchmark's deployment")
        deployment.release = release
        with Run(deployment) as run:
            on_every_server(run, ServerRun.connect, ServerRun.stage)
            staged = {server.target.status for server in run.servers}
        if staged != {"staged"}:
            raise SystemExit(f"deployer did not send it: {deployment.error_message}")


def run_tool(words: Sequence[object], **environment: object) -> None:
    """Run another tool; one that fails ends the benchmark with what it said."""
    done = subprocess.run(
        [*map(str, words)],
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": tempfile.gettempdir()}
        | {name: str(value) for name, value in environment.items()},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{words!r} ended with status {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
