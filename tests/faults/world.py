"""The place where faults happen: an SSH server behind a proxy, a queue, workers, and gates that hold every phase."""

import os
import random
import secrets
import shutil
import signal
import tempfile
import threading
import time
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from deployer.engine.routines import carry_out
from deployer.models import Deployment, Release, Target
from deployer.releases.isolation import isolation
from projects.models import ConfigFile, HealthCheck
from projects.steps import Moment
from tests.factories import make_deployment, make_group, make_project, make_server
from tests.parts.git import GitRepository
from tests.parts.programs import kill_all, processes_running, program, wait_until
from tests.parts.proxy import Proxy
from tests.parts.queue import QueueServer
from tests.parts.sshd import OpenSSHServer
from tests.parts.worker import Worker

#: Lines that the restart script prints on each of its streams, half of them before its gate.
LINES = 1000
#: As many where it floods the log: they are still being read long after it has ended.
FLOOD = 400_000

GATE = """\
#!/bin/sh
# Says that it was reached, then waits while it is closed.
: >"{gates}/$1.reached"
while [ -e "{gates}/$1.closed" ]; do sleep 0.02; done
"""
#: Programs in front of the real ones, at whose gates a phase is held.
WRAPPERS = {
    "git": 'case " $* " in *" fetch "*) gate cloning ;; esac',
    "zstd": 'case $1 in -dc) { head -c 150000; gate staging; cat; } | {real} "$@"; exit ;; esac',
    "tar": 'case " $* " in *unpacking*) gate unpacking ;; esac',
    "ln": 'case " $* " in *" .current."*) gate switching ;; esac',
}
#: Behind the rename that makes a release live, before the platform hears of it.
MV = 'case " $* " in *" .current."*) {real} "$@"; code=$?; gate switched; exit $code ;; esac'
SCRIPT = """\
echo "$DEPLOY_ID begun $DEPLOY_RELEASE" >>{folder}/ledger
seq 1 {half}; seq 1 {half} >&2
{folder}/bin/gate restarting
seq {next} {lines}; seq {next} {lines} >&2
[ -f {folder}/app.pid ] && kill "$(cat {folder}/app.pid)"
nohup {app} >/dev/null 2>&1 &
echo $! >{folder}/app.pid
echo "$DEPLOY_ID ended $DEPLOY_RELEASE" >>{folder}/ledger
"""

#: A step that says so in a file of its own, waits at its gate, and ends with a status.
STEP = """\
echo "$DEPLOY_ID $DEPLOY_STEP" >>{folder}/steps
{folder}/bin/gate "$DEPLOY_STEP"
exit {code}
"""


class World:
    """One server that is reached through ``proxy``, one project for it, and its worker; for one cell of the matrix.

    ``extra`` is more of the server's configuration; ``size`` is about that of the releases that are committed.
    """

    def __init__(self, queue: QueueServer, chance: random.Random, extra: str = "") -> None:
        self.queue = queue
        self.chance = chance
        self.folder = Path(tempfile.mkdtemp(prefix="deployer-faults-"))
        self.app = f"sleep 8{secrets.randbelow(10**7):07}"
        self.size = 1_500_000
        self.sshd = OpenSSHServer(extra)
        self.proxy = Proxy(self.sshd.port)
        self.workers: list[Worker] = []
        self._replaced: list[Worker] = []
        self._path = os.environ["PATH"]
        self._isolation = settings.DEPLOYER_BUILD_ISOLATION
        self._isolate_builds("off")  # a build comes to a gate that lies outside of every sandbox
        self._make_gates()
        self.server = make_server(self.sshd, port=self.proxy.port)
        self.group = make_group(self.server)
        self._watching = threading.Event()
        self.torn = 0

    # --- gates -------------------------------------------------------------------------------------

    def _make_gates(self) -> None:
        bins, gates = self.folder / "bin", self.folder / "gates"
        gates.mkdir()
        bins.mkdir()
        self._program("gate", GATE.format(gates=gates))
        for name, case in {**WRAPPERS, "mv": MV}.items():
            real = program(name, "coreutils git tar")
            case = case.replace("{real}", real).replace("gate ", f"{bins}/gate ")
            self._program(name, f'#!/bin/sh\n{case}\nexec {real} "$@"\n')
        (self.sshd.home / "bin").symlink_to(bins)
        os.environ["PATH"] = f"{bins}:{self._path}"  # workers begin with it

    def _isolate_builds(self, how: str) -> None:
        """Set DEPLOYER_BUILD_ISOLATION, here and for workers."""
        settings.DEPLOYER_BUILD_ISOLATION = os.environ["DEPLOYER_BUILD_ISOLATION"] = how
        isolation.cache_clear()

    def _program(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def hold(self, phase: str) -> None:
        """Whoever comes to the gate of ``phase`` from now on waits there."""
        (self.folder / "gates" / f"{phase}.reached").unlink(missing_ok=True)
        (self.folder / "gates" / f"{phase}.closed").touch()

    def wait_for(self, phase: str) -> None:
        """Return when somebody waits at the gate of ``phase``."""
        wait_until((self.folder / "gates" / f"{phase}.reached").exists, f"the phase {phase}")

    def let_go(self, phase: str) -> None:
        """Open the gate of ``phase`` for good."""
        (self.folder / "gates" / f"{phase}.closed").unlink(missing_ok=True)

    # --- what is deployed --------------------------------------------------------------------------

    def make_project(
        self, deployment_type: str, script: str = "", build_script: str = "", *, lines: int = LINES
    ) -> None:
        """A project of which a full deployment passes every gate, live in a first release if it has releases."""
        path = self.folder / "restart.sh"
        half = lines // 2
        text = SCRIPT.format(folder=self.folder, half=half, next=half + 1, lines=lines, app=self.app)
        path.write_text(script or text)
        self.type = deployment_type
        values = {"deploy_script_path": str(path), "process_name": "" if script else self.app, "script_timeout": 600}
        if deployment_type == Deployment.Type.FULL:
            self.repository = GitRepository(self.folder / "repository")
            gate = f"{self.folder}/bin/gate building"
            values |= {"git_url": self.repository.url, "build_script": build_script or gate}
            values["deploy_path"] = str(self.folder / "srv")
        self.project = make_project(**values)
        if not script:
            HealthCheck.objects.create(
                project=self.project,
                kind="command",
                target=f"{self.folder}/bin/gate checking",
                retries=2,
                interval=1,
                timeout=300,
            )
        if deployment_type == Deployment.Type.FULL and not (script or build_script):
            self._commit()
            first = self.launch()
            carry_out(first.pk)
            first.refresh_from_db()
            if first.status != "success":
                raise AssertionError(f"the first release was not deployed: {first.error_message}")

    def add_steps(self, failing: str = "") -> None:
        """A step at each moment from now on; the one at ``failing`` fails."""
        for moment in Moment.values:
            script = STEP.format(folder=self.folder, code=3 if moment == failing else 0)
            values = {"moment": moment, "script": script, "when": "always" if moment == Moment.AFTER_ALL else ""}
            self.project.steps.update_or_create(name=moment, defaults=values)

    def add_file(self) -> None:
        """A config file that is on the server already; from now on it is another one, and is held by its check."""
        file = ConfigFile(project=self.project, path=str(self.folder / "app.conf"), content=self.contents[0])
        file.check_command = f"{self.folder}/bin/gate files; test -s {{file}}"
        file.save()
        first = self.launch()
        carry_out(first.pk)
        first.refresh_from_db()
        if first.status != "success":
            raise AssertionError(f"the first config file was not put there: {first.error_message}")
        file.content = self.contents[1]
        file.save()

    #: What the config file was, and what it is to be: larger than a pipe takes at once.
    contents = tuple(f"{number}\n" * 60_000 + "end\n" for number in (1, 2))

    @property
    def file(self) -> str:
        """Which of its contents the config file has: ``before``, ``after``, or ``torn``."""
        text = (self.folder / "app.conf").read_text()
        return {self.contents[0]: "before", self.contents[1]: "after"}.get(text, "torn")

    def steps(self, deployment: Deployment) -> list[str]:
        """The steps that have run for ``deployment``, as they said themselves."""
        path = self.folder / "steps"
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [moment for number, moment in lines if number == str(deployment.pk)]

    def _commit(self) -> None:
        """A release whose first and last file say the same, with bytes between them that do not compress."""
        mark = secrets.token_hex(8)
        self.repository.commit({"a": mark, "m": self.chance.randbytes(self.size), "z": mark})

    def launch(self, release: Release | None = None) -> Deployment:
        """Launch what is new, or a release that is there already."""
        branch = release.commit_hash if release else "main"
        return make_deployment(self.project, self.group, deployment_type=self.type, release=release, branch=branch)

    def next_release(self) -> None:
        """Commit what the next full deployment brings."""
        if self.type == Deployment.Type.FULL and self.project.build_script.endswith("gate building"):
            self._commit()

    # --- workers -----------------------------------------------------------------------------------

    def start_worker(self) -> Worker:
        """One more worker."""
        self.workers.append(Worker(self.queue))
        return self.workers[-1]

    def keep_workers(self) -> None:
        """Start a worker anew whose process has ended, as the supervisor does."""
        for worker in self.workers:
            if worker.process.poll() is not None and worker.process.returncode != -signal.SIGKILL:
                self.workers.remove(worker)
                self._replaced.append(worker)  # its work horse may live on
                self.start_worker()

    def grow_old(self, deployment: Deployment) -> None:
        """As if its worker had shown no sign of life, and its launch had waited, for a minute."""
        long_ago = timezone.now() - timedelta(minutes=1)
        rows = Deployment.objects.active().filter(pk=deployment.pk)
        rows.exclude(heartbeat_at=None).update(heartbeat_at=long_ago)
        rows.filter(heartbeat_at=None).update(created_at=long_ago)

    def wait_for_end(self, deployment: Deployment) -> None:
        """Return when it has ended."""

        def ended() -> bool:
            self.keep_workers()
            return Deployment.objects.ended().filter(pk=deployment.pk).exists()

        wait_until(ended, f"deployment {deployment.pk} to end")
        deployment.refresh_from_db()

    # --- what is true ------------------------------------------------------------------------------

    def ledger(self, deployment: Deployment) -> list[str]:
        """What the script itself wrote about its runs for ``deployment``: begun, ended."""
        path = self.folder / "ledger"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.split()[1] for line in lines if line.startswith(f"{deployment.pk} ")]

    def restarted_release(self) -> str:
        """The release for which the script ran to its end the last time."""
        path = self.folder / "ledger"
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return next((words[2] for words in reversed(lines) if words[1] == "ended" and len(words) > 2), "")

    @property
    def live(self) -> str:
        """The release that ``current`` leads to."""
        link = self.folder / "srv" / "current"
        return link.readlink().name if link.is_symlink() else ""

    def watch_current(self) -> None:
        """Read through ``current`` all the time and count in ``torn`` what was not one whole release."""
        if not (self.folder / "srv" / "current").exists():
            return
        self._watcher = threading.Thread(target=self._watch, name="reader of current", daemon=True)
        self._watcher.start()

    def _watch(self) -> None:
        while not self._watching.wait(0.003):
            try:
                folder = os.open(self.folder / "srv" / "current", os.O_RDONLY | os.O_DIRECTORY)
                try:
                    ends = []
                    for name in ("a", "z"):
                        file = os.open(name, os.O_RDONLY, dir_fd=folder)
                        ends.append(os.read(file, 100))
                        os.close(file)
                finally:
                    os.close(folder)
                self.torn += ends[0] != ends[1]
            except OSError:
                self.torn += 1

    def strangers(self) -> list[int]:
        """Programs that sessions have started and that are not the application."""
        app = self.folder / "app.pid"
        return [pid for pid in self.sshd.processes() if not (app.exists() and app.read_text().strip() == str(pid))]

    def close(self) -> None:
        """Leave nothing behind."""
        self._watching.set()
        for gate in (self.folder / "gates").glob("*.closed"):
            gate.unlink()
        os.environ["PATH"] = self._path
        self._isolate_builds(self._isolation)
        for worker in [*self.workers, *self._replaced]:
            if worker.process.poll() is None:
                worker.process.send_signal(signal.SIGCONT)
            worker.stop()
        self.proxy.close()
        self.sshd.close()
        kill_all(processes_running(self.app))
        Target.objects.filter(deployment__finished_at=None).update(status=Target.Status.UNKNOWN)
        Deployment.objects.active().update(status=Deployment.Status.FAILED, finished_at=timezone.now())
        shutil.rmtree(self.folder, ignore_errors=True)


def pause(chance: random.Random, most: float) -> None:
    """A moment, as long as ``chance`` wants it."""
    time.sleep(chance.random() * most)
