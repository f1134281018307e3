"""`deployer up`: everything in one - queue server, workers and web - until Ctrl-C."""

import http.client
import os
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import CommandError, CommandParser
from django.db import DatabaseError, connections
from django.utils.crypto import get_random_string
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from redis.exceptions import RedisError

from deployer.host.addresses import is_loopback, queue_weaknesses
from deployer.host.kinds import Kind, shared
from deployer.host.listening import PortTakenError, listening, tell_systemd
from deployer.host.processes import become, hide_memory
from deployer.host.queue_server import queue_answers, queue_program
from deployer.host.supervisor import AT_ONCE, Program, StartFailedError, Supervisor, manage
from deployer.management.commandline import SpokenCommand, one_data_folder
from deployer.playground import keeping
from deployer.queue.sending import PATIENCE, asked_once
from deployer.settings import bind_address
from people.models import User

WEB_PROCESSES = 2


class Command(SpokenCommand):
    summary = gettext_lazy(
        "Run everything in one: migrations, the embedded queue server, workers and the web server, until Ctrl-C."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--bind", metavar="HOST:PORT", help=_("the address to listen on, instead of DEPLOYER_BIND"))
        parser.add_argument(
            "--workers", type=int, metavar="N", help=_("the number of worker processes, instead of DEPLOYER_WORKERS")
        )
        parser.add_argument("--no-backup", action="store_true", help=_("do not back up before a migration"))

    def handle(
        self, *_args: Any, bind: str | None, workers: int | None, no_backup: bool = False, **_options: Any
    ) -> None:
        hide_memory()
        if workers is not None and not 1 <= workers <= 64:
            raise CommandError(_("--workers must be a number from 1 to 64."))
        try:
            host, port = bind_address(bind) if bind else settings.DEPLOYER_BIND
        except ImproperlyConfigured as error:
            raise CommandError(str(error).replace("DEPLOYER_BIND", "--bind")) from error
        if not (settings.DEPLOYER_HTTPS or is_loopback(host)):
            self.stderr.write(
                _(
                    "Others reach %(host)s, and DEPLOYER_HTTPS is no: passwords and API tokens pass in clear text. Put "
                    "a proxy that speaks https in front, and set DEPLOYER_HTTPS=yes."
                )
                % {"host": host}
            )
        try:
            with one_data_folder(), listening(host, port) as listener:
                self._leave_root()
                self._prepare(backup=not no_backup)
                self._run(listener, f"{host}:{port}", workers or settings.DEPLOYER_WORKERS)
        except (PortTakenError, StartFailedError) as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt as error:
            raise CommandError(_("Stopped before it had started.")) from error

    def _leave_root(self) -> None:
        """Become DEPLOYER_USER, now that the port is open; say so where root stays root."""
        if os.geteuid() != 0:
            return
        if not settings.DEPLOYER_USER:
            self.stderr.write(_("deployer runs as root: set DEPLOYER_USER to a user of its own, or start it as one."))
            return
        become(settings.DEPLOYER_USER, Path(settings.DATA_DIR))
        hide_memory()
        if not os.access(__file__, os.R_OK) or not os.access(sys.executable, os.X_OK):
            raise CommandError(
                _("The user %(user)s may not read %(folder)s or run %(python)s.")
                % {"user": settings.DEPLOYER_USER, "folder": settings.BASE_DIR, "python": sys.executable}
            )

    def _run(self, listener: socket.socket, bind: str, workers: int) -> None:
        stages = [
            [queue_program()] if settings.QUEUE_IS_EMBEDDED else [],
            [_web(number, listener) for number in range(1, WEB_PROCESSES + 1)],
            [keeping.program()],
            # The first to stop: they finish what they hold.
            [*_workers(workers, settings.DEPLOYER_QUEUES), _COURIER],
        ]
        environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "deployer.settings",
            "DEPLOYER_BIND": bind,  # the site lets its own address in
            "PYTHONUNBUFFERED": "1",
        }
        supervisor = Supervisor([stage for stage in stages if stage], environment, sys.stdout)

        def tell() -> None:
            supervisor.say(_("ready at %(url)s") % {"url": _url(listener)})
            tell_systemd("READY=1")

        supervisor.run(when_ready=tell)
        supervisor.say(_("stopped"))

    def _prepare(self, *, backup: bool) -> None:
        """Bring database and static files up to date, and see to it that somebody can log in."""
        try:
            call_command("migrate", interactive=False, verbosity=0, no_backup=not backup, stdout=self.stdout)
            call_command("collectstatic", interactive=False, verbosity=0)
            self._make_first_user()
        except DatabaseError as error:
            raise CommandError(_("The database cannot be used: %(why)s") % {"why": str(error).strip()}) from error
        finally:
            connections.close_all()
        if settings.QUEUE_IS_EMBEDDED:
            _wait_for_former_queue()
        else:
            for weakness in queue_weaknesses(settings.REDIS_URL).values():
                self.stderr.write(weakness)
            self._warn_without_queue()

    def _make_first_user(self) -> None:
        users = User.objects
        if users.filter(is_superuser=True).exists():
            return
        if users.filter(username="admin").exists():
            self.stderr.write(_("There is no superuser yet: create one with `deployer createsuperuser`."))
            return
        password = get_random_string(20)
        users.create_superuser(username="admin", password=password)
        self.stdout.write(_("The first user is “admin” with the password %(password)s") % {"password": password})
        self.stdout.write(_("It is shown only once: log in and change it."))
        self.stdout.flush()

    def _warn_without_queue(self) -> None:
        try:
            with asked_once(PATIENCE) as queue:
                queue.ping()
        except (RedisError, OSError) as error:
            self.stderr.write(
                _("REDIS_URL is set, but no queue server answers there (%(why)s): deployments wait until one does.")
                % {"why": error}
            )


def _wait_for_former_queue(timeout: float = 10) -> None:
    """Wait for the server that a killed `up` has left: it removes the socket when it ends."""
    deadline = time.monotonic() + timeout
    while queue_answers():
        if time.monotonic() > deadline:
            raise CommandError(
                _("Another queue server answers on %(socket)s: stop it first.") % {"socket": settings.QUEUE_SOCKET}
            )
        time.sleep(0.1)


#: Sends notices; what it has begun, it finishes.
_COURIER = Program("courier", manage("courier"), patience=30.0)


def _workers(count: int, kinds: Iterable[Kind]) -> Iterator[Program]:
    """The workers that take these kinds: ``count`` that deploy, and one for each kind that has one of its own.

    Looks are beside the others so that no deployment waits for a server that does not answer; logs are followed while
    somebody looks at them: between that it costs nothing but memory.
    """
    if together := shared(kinds):
        yield from (_worker(number, together) for number in range(1, count + 1))
    yield from (Program(kind, manage("worker", kind), hurry_signal=AT_ONCE) for kind in kinds if kind.is_apart)


def _worker(number: int, kinds: list[Kind]) -> Program:
    return Program(
        f"worker-{number}",
        manage("worker", *kinds),
        patience=None,
        waiting=_("Waiting for a running deployment to finish. Press Ctrl-C again to stop it at once."),
        hurry_signal=AT_ONCE,
    )


def _web(number: int, listener: socket.socket) -> Program:
    command = manage("web", "--fd", str(listener.fileno()))
    return Program(f"web-{number}", command, answers=lambda: _web_answers(listener), sockets=[listener])


def _web_answers(listener: socket.socket) -> bool:
    """Whether the site answers a request, whatever the answer."""
    address = _reachable(listener)
    connection = http.client.HTTPConnection(*address, timeout=2)
    try:
        connection.request("GET", "/", headers={"Host": f"{address[0]}:{address[1]}"})
        connection.getresponse()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def _reachable(listener: socket.socket) -> tuple[str, int]:
    host, port = listener.getsockname()[:2]
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port  # noqa: S104 (compared, not bound)


def _url(listener: socket.socket) -> str:
    host, port = _reachable(listener)
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
