"""`deployer worker`: carries out deployments, looks at servers or follows logs, until it is asked to stop."""

from argparse import ArgumentTypeError
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer.declaring.reading import printable
from deployer.host.kinds import Kind, queues_of, shared
from deployer.management.commandline import SpokenCommand


def _kind(name: str) -> Kind:
    for kind in Kind:
        if kind == name:
            return kind
    words = {"name": printable(name), "known": ", ".join(Kind)}
    raise ArgumentTypeError(_("there is no queue “%(name)s”: there are %(known)s.") % words)


class Command(SpokenCommand):
    summary = gettext_lazy(
        "Take jobs from the queue, until Ctrl-C; what it has begun, it finishes first. `build` builds releases, "
        "`deploy` carries out deployments and commands, `look` asks servers what they run, `follow` follows logs of "
        "applications: one of the last two is enough. `up` runs them all."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "kinds",
            nargs="*",
            type=_kind,
            metavar="QUEUE",
            help=_("what it takes (%s), instead of what DEPLOYER_QUEUES names") % ", ".join(Kind),
        )

    def handle(self, *_args: Any, kinds: list[Kind], verbosity: int, **_options: Any) -> None:
        here = settings.DEPLOYER_QUEUES
        # What has a worker of its own is taken by another one only where nothing else is left to it.
        chosen = [kind for kind in Kind if kind in kinds] or shared(here) or here
        call_command("rqworker", *queues_of(chosen), verbosity=verbosity)
