"""`manage.py demo`: a full and a restart-only deployment of a small shop on three SSH servers of its own."""

import fcntl
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer.host.supervisor import adopt_orphans, ending_with_parent, manage
from deployer.management.commandline import SpokenCommand
from deployer.playground import servers
from deployer.playground.scene import SERVERS, SHOP_PORT, SSH_PORT, declaration, free_port, make_repository, new_version
from deployer.playground.servers import end_programs

FOLDER = Path(settings.BASE_DIR) / ".demo"
#: The site's address; the next free one where it is taken.
SITE_PORT = 8000
DEPLOYMENT_TIMEOUT = 300


@dataclass(frozen=True)
class Facts:
    """What a shop says about itself over HTTP."""

    version: str
    pid: int
    started: float

    def __str__(self) -> str:
        moment = datetime.fromtimestamp(self.started).strftime("%H:%M:%S")
        return _("%(version)s, process %(pid)d since %(moment)s") % {
            "version": self.version,
            "pid": self.pid,
            "moment": moment,
        }


class Command(SpokenCommand):
    summary = gettext_lazy(
        "Show two real deployments, full and restart-only, on three SSH servers that the demo brings along."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help=_("stop everything after the two deployments"))

    def handle(self, *_args: Any, once: bool, **_options: Any) -> None:
        FOLDER.mkdir(mode=0o700, exist_ok=True)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.default_int_handler)
        adopt_orphans()
        with _only_one(), Stage() as stage:
            try:
                good = self._show(stage)
                if not once:
                    self._stay(stage)
            except KeyboardInterrupt:
                self._say(_("Stopping."))
                if once:
                    raise CommandError(_("Stopped before the end."), returncode=130) from None
                return
        if not good:
            raise CommandError(_("The demo did not go as it should: see above."))

    # --- the course of it --------------------------------------------------------------------------

    def _show(self, stage: "Stage") -> bool:
        self._title(_("Three SSH servers, a git repository, and deployer"))
        stage.start_servers()
        for name in SERVERS:
            self._say(f"  {name}   ssh 127.0.0.1:{stage.ssh_ports[name]}   shop 127.0.0.1:{stage.shop_ports[name]}")
        self._say(_("  version %(version)s of the shop is committed") % {"version": stage.make_repository()})
        stage.start_site()
        self._say(_("  the site answers at %(url)s") % {"url": stage.url})

        self._title(_("manage.py apply demo.yaml"))
        stage.write_yaml()
        applied = stage.manage("apply", str(stage.yaml))
        if applied:
            raise CommandError(_("apply failed with status %(status)d.") % {"status": applied})

        nothing: dict[str, Facts | None] = {name: stage.ask(name) for name in SERVERS}
        full_ended = self._deploy(stage, _("A full deployment: clone, build, upload, switch, restart"))
        first: dict[str, Facts | None] = {name: stage.ask(name) for name in SERVERS}
        full_good = self._compare(stage, nothing, first) and full_ended
        restart_ended = self._deploy(
            stage, _("A restart-only deployment: nothing is cloned, built or uploaded"), "--type", "restart_only"
        )
        second: dict[str, Facts | None] = {name: stage.ask(name) for name in SERVERS}
        restart_good = self._compare(stage, first, second) and restart_ended

        self._title(_("Result"))
        for good, kind in ((full_good, "full"), (restart_good, "restart_only")):
            verdict = _("success, verified over HTTP on every server") if good else _("FAILED")
            self._say(f"  {'✔' if good else '✘'} {kind:<13}{verdict}")
        return full_good and restart_good

    def _deploy(self, stage: "Stage", title: str, *arguments: str) -> bool:
        self._title(title)
        status, answer = stage.deploy(*arguments)
        ends = [target["status"] for target in answer.get("targets", [])]
        return status == 0 and answer.get("status") == "success" and ends == ["success"] * len(SERVERS)

    def _compare(self, stage: "Stage", before: dict[str, Facts | None], after: dict[str, Facts | None]) -> bool:
        """Show what the shops answered, before and after. Whether each is a new process of the committed version."""
        before_it, after_it = _("before"), _("after")
        self._say("")
        self._say(f"  {'HTTP':<8}{before_it:<44}{after_it}")
        good = True
        for name in SERVERS:
            old, new = before[name], after[name]
            fits = new is not None and new.version == stage.version and (old is None or new.pid != old.pid)
            fits = fits and (old is None or new is None or new.started > old.started)
            good = good and fits
            shown = [str(facts) if facts else _("no answer") for facts in (old, new)]
            self._say(f"  {name:<8}{shown[0]:<44}{shown[1]} {'✔' if fits else '✘'}")
        return good

    def _stay(self, stage: "Stage") -> None:
        self._title(_("The site stays up until Ctrl-C"))
        self._say(f"  {stage.url}")
        self._say(_("  user admin, password %(password)s") % {"password": stage.password})
        for name in SERVERS:
            self._say(f"  {name}   http://127.0.0.1:{stage.shop_ports[name]}/")
        stage.watch()

    def _title(self, text: str) -> None:
        self._say("\n" + self.style.MIGRATE_HEADING(text))

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()


class Stage:
    """Everything that the demo runs on; leaving it stops all that was started, the shops too."""

    def __init__(self) -> None:
        self.version = new_version()
        self.yaml = FOLDER / "demo.yaml"
        self.repository = FOLDER / "repository"
        self._processes: list[subprocess.Popen[bytes]] = []
        taken: set[int] = set()
        self.ssh_ports = {name: free_port(SSH_PORT + index, taken) for index, name in enumerate(SERVERS)}
        self.shop_ports = {name: free_port(SHOP_PORT + index, taken) for index, name in enumerate(SERVERS)}
        self.site_port = free_port(SITE_PORT, taken)
        self.url = f"http://127.0.0.1:{self.site_port}/"
        self.environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "deployer.settings",
            "DEPLOYER_DATA_DIR": str(FOLDER / "data"),
            "DEPLOYER_BIND": f"127.0.0.1:{self.site_port}",
            "DEPLOYER_ALLOW_LOCAL_GIT": "yes",
            # Whatever a .env file says is for real use, not for the demo.
            **dict.fromkeys(
                ("DATABASE_URL", "REDIS_URL", "DEPLOYER_SECRET_KEY", "DEPLOYER_ENCRYPTION_KEYS"),
                "",
            ),
            "DEPLOYER_ALLOWED_HOSTS": "",
            "DEPLOYER_HTTPS": "no",
            "DEPLOYER_WORKERS": "1",
            "PYTHONUNBUFFERED": "1",
        }

    def __enter__(self) -> "Stage":
        end_programs(FOLDER)  # a run that was killed may have left them
        for path in FOLDER.iterdir():
            if path.name == "lock":
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        return self

    def __exit__(self, *_exc: object) -> None:
        before = [signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
        try:
            for process in reversed(self._processes):
                _stop(process)
            end_programs(FOLDER)
            self._bury()
        finally:
            for number, handler in zip((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), before, strict=True):
                signal.signal(number, handler)

    # --- what is started ---------------------------------------------------------------------------

    def start_servers(self) -> None:
        """Start the SSH servers, and wait until they listen."""
        machines = [f"{name}:{self.ssh_ports[name]}:{self.shop_ports[name]}" for name in SERVERS]
        process = self._start("servers", [sys.executable, servers.__file__, str(FOLDER), *machines])
        self._wait(process, "servers", lambda: "ready" in self._log("servers"))

    def start_site(self) -> None:
        """Start `manage.py up` on the demo's own data folder, and wait until it answers."""
        process = self._start("site", manage("up"))
        ready = _("ready at %(url)s") % {"url": self.url}  # in the language that both speak
        self._wait(process, "site", lambda: ready in self._log("site"))

    def make_repository(self) -> str:
        """Commit the shop to a repository made on the spot; gives the version that is in it."""
        make_repository(self.repository, self.version)
        return self.version

    def write_yaml(self) -> None:
        """Fill this run's ports and folders into demo/demo.yaml."""
        values: dict[str, Any] = {
            "key": "demo-key",
            "username": servers.username(),
            "group": "web",
            "environment": "production",
            "project": "shop",
            "repository": str(self.repository),
            "git_credential": None,
        }
        for number, name in enumerate(SERVERS, start=1):
            values |= {f"server_{number}": name, f"ssh_port_{number}": self.ssh_ports[name]}
        self.yaml.write_text(declaration(values))

    @property
    def password(self) -> str:
        """The first user's password, as the site has shown it."""
        shown = re.escape(_("The first user is “admin” with the password %(password)s"))
        found = re.search(shown.replace(re.escape("%(password)s"), r"(\S+)"), self._log("site"))
        return found[1] if found else "?"

    def watch(self) -> None:
        """Wait for Ctrl-C, or for the site or the servers to end."""
        while all(process.poll() is None for process in self._processes):
            self._bury()
            time.sleep(0.5)
        raise CommandError(_("A part of the demo ended by itself: see %(folder)s.") % {"folder": FOLDER})

    # --- what is asked -----------------------------------------------------------------------------

    def manage(self, *arguments: str) -> int:
        """Run one of the project's commands, its output shown; gives its exit status."""
        with self._running(manage(*arguments)) as process:
            return process.wait()

    def deploy(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Run `manage.py deploy shop --wait`, its log shown as it comes; gives exit status and JSON answer."""
        command = manage("deploy", "shop", "--group", "web", "--wait", "--json", *arguments)
        with self._running(command, stdout=subprocess.PIPE, stderr=sys.stdout.fileno()) as process:
            try:
                answer = process.communicate(timeout=DEPLOYMENT_TIMEOUT)[0]
            except subprocess.TimeoutExpired as error:
                raise CommandError(
                    _("The deployment did not end in %(seconds)d seconds. What the site said:\n%(log)s")
                    % {"seconds": DEPLOYMENT_TIMEOUT, "log": self._log("site")[-3000:]}
                ) from error
        return process.returncode, json.loads(answer) if answer.strip() else {}

    def ask(self, name: str) -> Facts | None:
        """What the shop on server ``name`` answers over HTTP; nothing when nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.shop_ports[name], timeout=5)
        try:
            connection.request("GET", "/up")
            return Facts(**json.loads(connection.getresponse().read()))
        except (OSError, http.client.HTTPException, ValueError, TypeError):
            return None
        finally:
            connection.close()

    # --- processes ---------------------------------------------------------------------------------

    def _start(self, name: str, command: Sequence[str]) -> "subprocess.Popen[bytes]":
        with (FOLDER / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=settings.BASE_DIR,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the demo, which stops them in order
                preexec_fn=ending_with_parent(),
            )
        self._processes.append(process)
        return process

    @contextmanager
    def _running(self, command: Sequence[str], **options: Any) -> Iterator["subprocess.Popen[bytes]"]:
        process = subprocess.Popen(
            command,
            cwd=settings.BASE_DIR,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=ending_with_parent(),
            **options,
        )
        try:
            yield process
        finally:
            _stop(process)

    def _log(self, name: str) -> str:
        return (FOLDER / f"{name}.log").read_text(errors="replace")

    def _wait(self, process: "subprocess.Popen[bytes]", name: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 90
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise CommandError(
                    _("The demo's %(name)s did not start:\n%(log)s") % {"name": name, "log": self._log(name)}
                )
            time.sleep(0.05)

    def _bury(self) -> None:
        """Take note of adopted processes that have ended, so that none stays in the process table."""
        own = {process.pid for process in self._processes}
        try:
            children = Path("/proc/self/task", str(os.getpid()), "children").read_text().split()
        except FileNotFoundError:  # a kernel without it; then init does it
            return
        for pid in {int(child) for child in children} - own:
            os.waitpid(pid, os.WNOHANG)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Ask once kindly; a deployment that still runs is waited for, but not for long."""
    for wait in (10, 15):
        if process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            continue
    process.kill()
    process.wait()


@contextmanager
def _only_one() -> Iterator[None]:
    with (FOLDER / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CommandError(_("The demo runs already: stop that one first.")) from error
        yield
