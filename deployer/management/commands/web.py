"""`deployer web`: serves pages and API in one process, beside workers that something else keeps running."""

import argparse
import fcntl
import socket
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import CommandError, CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer.host.listening import PortTakenError, handed_over, listening
from deployer.host.processes import hide_memory
from deployer.management.commandline import SpokenCommand
from deployer.serving.running import serve
from deployer.settings import bind_address


class Command(SpokenCommand):
    summary = gettext_lazy(
        "Serve the pages and the API alone, in one process, until Ctrl-C: for units of systemd or containers. `up` "
        "runs everything in one. On a socket that systemd hands over, or on DEPLOYER_BIND. Before it starts for the "
        "first time and after each upgrade: deployer migrate."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--bind", metavar="HOST:PORT", help=_("the address to listen on, instead of DEPLOYER_BIND"))
        parser.add_argument("--fd", type=int, help=argparse.SUPPRESS)

    def handle(self, *_args: Any, bind: str | None, fd: int | None, **_options: Any) -> None:
        hide_memory()
        if fd is not None:
            serve(socket.socket(fileno=fd), is_supervised=True)
        _collect()
        try:
            if (given := handed_over()) is not None:
                serve(given)
            host, port = bind_address(bind) if bind else settings.DEPLOYER_BIND
            with listening(host, port) as listener:
                serve(listener)
        except ImproperlyConfigured as error:
            raise CommandError(str(error).replace("DEPLOYER_BIND", "--bind")) from error
        except PortTakenError as error:
            raise CommandError(str(error)) from error


def _collect() -> None:
    """Bring the static files up to date; of several processes that start, one after the other."""
    with (settings.DATA_DIR / "static.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        call_command("collectstatic", interactive=False, verbosity=0)
