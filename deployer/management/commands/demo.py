"""`deployer demo`: a full and a restart-only deployment of a small shop on three SSH servers of its own."""

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer.host.processes import HeldError, bury_orphans, only_one, start_program, stop_program
from deployer.host.supervisor import Program, StartFailedError, Supervisor, manage
from deployer.management.commandline import SpokenCommand
from deployer.playground import scene
from deployer.playground.scene import SERVERS
from deployer.playground.servers import end_programs
from servers.processes import adopt_orphans

FOLDER = Path(settings.BASE_DIR) / ".demo" if settings.IS_CHECKOUT else Path(settings.DATA_DIR) / "demo"
#: What the servers and the site print.
LOG = FOLDER / "demo.log"
#: The site's address; the next free one where it is taken.
SITE_PORT = 8000
DEPLOYMENT_TIMEOUT = 300


@dataclass(frozen=True)
class ShopFacts:
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
        "Run two real deployments, full and restart-only, on three SSH servers that the demo starts."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help=_("stop everything after the two deployments"))

    def handle(self, *_args: Any, once: bool, **_options: Any) -> None:
        FOLDER.mkdir(mode=0o700, exist_ok=True)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.default_int_handler)
        adopt_orphans()
        with _only_one_here():
            try:
                self._title(_("Three SSH servers, a git repository, and deployer"))
                with demo_site() as site:
                    good = self._show(site)
                    if not once:
                        self._stay(site)
            except KeyboardInterrupt:
                self._say(_("Stopping."))
                if once:
                    raise CommandError(_("Stopped before the end."), returncode=130) from None
                return
        if not good:
            raise CommandError(_("The demo did not run as expected: see above."))

    # --- the course of it --------------------------------------------------------------------------

    def _show(self, site: "DemoSite") -> bool:
        for name, ports in site.ports.items():
            self._say(f"  {name}   ssh 127.0.0.1:{ports.ssh}   shop 127.0.0.1:{ports.shop}")
        self._say(_("  version %(version)s of the shop is committed") % {"version": site.version})
        self._say(_("  the site answers at %(url)s") % {"url": site.url})

        self._title(_("deployer apply demo.yaml"))
        applied = site.manage("apply", str(site.write_yaml()))
        if applied:
            raise CommandError(_("apply failed with status %(status)d.") % {"status": applied})

        nothing: dict[str, ShopFacts | None] = {name: site.ask(name) for name in SERVERS}
        full_ended = self._deploy(site, _("A full deployment: clone, build, upload, switch, restart"))
        first: dict[str, ShopFacts | None] = {name: site.ask(name) for name in SERVERS}
        full_good = self._compare(site, nothing, first) and full_ended
        restart_ended = self._deploy(
            site, _("A restart-only deployment: nothing is cloned, built or uploaded"), "--type", "restart_only"
        )
        second: dict[str, ShopFacts | None] = {name: site.ask(name) for name in SERVERS}
        restart_good = self._compare(site, first, second) and restart_ended

        self._title(_("Result"))
        for good, kind in ((full_good, "full"), (restart_good, "restart_only")):
            verdict = _("success, verified over HTTP on every server") if good else _("FAILED")
            self._say(f"  {'✔' if good else '✘'} {kind:<13}{verdict}")
        return full_good and restart_good

    def _deploy(self, site: "DemoSite", title: str, *arguments: str) -> bool:
        self._title(title)
        status, answer = site.deploy(*arguments)
        ends = [target["status"] for target in answer.get("targets", [])]
        return status == 0 and answer.get("status") == "success" and ends == ["success"] * len(SERVERS)

    def _compare(
        self, site: "DemoSite", before: dict[str, ShopFacts | None], after: dict[str, ShopFacts | None]
    ) -> bool:
        """Show what the shops answered, before and after. Whether each is a new process of the committed version."""
        before_it, after_it = _("before"), _("after")
        self._say("")
        self._say(f"  {'HTTP':<8}{before_it:<44}{after_it}")
        good = True
        for name in SERVERS:
            old, new = before[name], after[name]
            fits = new is not None and new.version == site.version and (old is None or new.pid != old.pid)
            fits = fits and (old is None or new is None or new.started > old.started)
            good = good and fits
            shown = [str(facts) if facts else _("no answer") for facts in (old, new)]
            self._say(f"  {name:<8}{shown[0]:<44}{shown[1]} {'✔' if fits else '✘'}")
        return good

    def _stay(self, site: "DemoSite") -> None:
        self._title(_("The site stays up until Ctrl-C"))
        self._say(f"  {site.url}")
        self._say(_("  user admin, password %(password)s") % {"password": site.password})
        for name, ports in site.ports.items():
            self._say(f"  {name}   http://127.0.0.1:{ports.shop}/")
        site.watch()

    def _title(self, text: str) -> None:
        self._say("\n" + self.style.MIGRATE_HEADING(text))

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()


@contextmanager
def demo_site() -> Iterator["DemoSite"]:
    """Empty the demo's folder and bring everything up in it; at the end stop all that was started, the shops too."""
    end_programs(FOLDER)  # a run that was killed may have left them
    for path in FOLDER.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "lock":
            path.unlink()
    try:
        with LOG.open("w") as log:
            site = DemoSite(log)
            with site.supervisor.running():
                yield site
    except StartFailedError as error:
        raise CommandError(
            _("The demo's %(name)s did not start:\n%(log)s") % {"name": error.name, "log": _said_by(error.name)}
        ) from error
    finally:
        end_programs(FOLDER)
        bury_orphans(())


class DemoSite:
    """Everything that the demo runs on."""

    def __init__(self, log: IO[str]) -> None:
        self.version = scene.new_version()
        self.repository = FOLDER / "repository"
        scene.make_repository(self.repository, self.version)
        taken: set[int] = set()
        self.ports = dict(zip(SERVERS, scene.free_ports(scene.FIRST_PORTS, taken), strict=True))
        scene.write_machines(FOLDER, [*self.ports.values()])
        site_port = scene.free_port(SITE_PORT, taken)
        self.url = f"http://127.0.0.1:{site_port}/"
        self.environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "deployer.settings",
            "DEPLOYER_DATA_DIR": str(FOLDER / "data"),
            "DEPLOYER_BIND": f"127.0.0.1:{site_port}",
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
        self.supervisor = Supervisor([[_servers()], [_site(self.url)]], self.environment, log)

    def write_yaml(self) -> Path:
        """Fill this run's ports and folders into the declaration; gives its file."""
        words = {"key": "demo-key", "group": "web", "environment": "production", "project": "shop"}
        path = FOLDER / "demo.yaml"
        path.write_text(
            scene.declaration(
                SERVERS, [*self.ports.values()], repository=str(self.repository), git_credential=None, **words
            )
        )
        return path

    @property
    def password(self) -> str:
        """The first user's password, as the site has shown it."""
        shown = re.escape(_("The first user is “admin” with the password %(password)s"))
        found = re.search(shown.replace(re.escape("%(password)s"), r"(\S+)"), _said_by("site"))
        return found[1] if found else "?"

    def watch(self) -> None:
        """Wait for Ctrl-C, which is a `KeyboardInterrupt`."""
        self._attend(None)

    # --- what is asked -----------------------------------------------------------------------------

    def manage(self, *arguments: str) -> int:
        """Run one of the project's commands, its output shown; gives its exit status."""
        process = start_program(manage(*arguments), self.environment)
        self._attend(process)
        return process.returncode

    def deploy(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Run `deployer deploy shop --wait`, its log shown as it comes; gives exit status and JSON answer."""
        command = manage("deploy", "shop", "--group", "web", "--wait", "--json", *arguments)
        with tempfile.TemporaryFile() as file:
            process = start_program(command, self.environment, stdout=file, stderr=sys.stdout.fileno())
            self._attend(process, DEPLOYMENT_TIMEOUT)
            file.seek(0)
            answer = file.read()
        return process.returncode, json.loads(answer) if answer.strip() else {}

    def ask(self, name: str) -> ShopFacts | None:
        """The answer of the shop on server ``name`` over HTTP; None if there is none."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[name].shop, timeout=5)
        try:
            connection.request("GET", "/up")
            return ShopFacts(**json.loads(connection.getresponse().read()))
        except (OSError, http.client.HTTPException, ValueError, TypeError):
            return None
        finally:
            connection.close()

    def _attend(self, process: "subprocess.Popen[bytes] | None", timeout: float | None = None) -> None:
        """Keep everything running until ``process`` has ended. It is stopped when that takes too long, or at Ctrl-C."""
        deadline = None if timeout is None else time.monotonic() + timeout

        def is_over() -> bool:
            bury_orphans(self.supervisor.pids | ({process.pid} if process else set()))
            if deadline is not None and time.monotonic() > deadline:
                raise CommandError(
                    _("The deployment did not end in %(seconds)d seconds. Output of the site:\n%(log)s")
                    % {"seconds": timeout, "log": _said_by("site")[-3000:]}
                )
            return process is not None and process.poll() is not None

        try:
            if not self.supervisor.attend(is_over):
                raise KeyboardInterrupt
        finally:
            if process is not None:
                stop_program(process, 10, 15)


def _servers() -> Program:
    return Program("servers", scene.servers_command(FOLDER), answers=(FOLDER / "ready").exists, ready_within=90)


def _site(url: str) -> Program:
    """`deployer up` on the demo's own data folder. A deployment that still runs is waited for, but not for long."""
    ready = _("ready at %(url)s") % {"url": url}  # in the language that both speak
    return Program(
        "site", manage("up"), answers=lambda: ready in _said_by("site"), ready_within=90, patience=25, ask_again=10
    )


def _said_by(name: str) -> str:
    """What a program has printed so far."""
    rows = (line.partition(" | ") for line in LOG.read_text(errors="replace").splitlines())
    return "\n".join(text for teller, _bar, text in rows if teller.strip() == name)


@contextmanager
def _only_one_here() -> Iterator[None]:
    try:
        with only_one(FOLDER / "lock"):
            yield
    except HeldError as error:
        raise CommandError(_("The demo is already running: stop it first.")) from error
