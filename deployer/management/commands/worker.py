"""`deployer worker`: carries out deployments, looks at servers or follows logs, until it is asked to stop."""

from typing import Any

from django.core.management import call_command
from django.core.management.base import CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer.management.commandline import SpokenCommand

#: What a worker takes, by the name of its kind. What was sent to webhooks is judged by whichever is free first.
KINDS = {"deploy": ("hooks", "default"), "look": ("hooks", "look"), "follow": ("follow",)}


class Command(SpokenCommand):
    summary = gettext_lazy(
        "Take jobs from the queue, until Ctrl-C; what it has begun, it finishes first. `deploy` carries out "
        "deployments and commands, `look` asks servers what they run, `follow` follows logs of applications: one of "
        "the last two is enough. `up` runs them all."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("kind", nargs="?", choices=KINDS, default="deploy", help=_("what it does"))

    def handle(self, *_args: Any, kind: str, verbosity: int, **_options: Any) -> None:
        call_command("rqworker", *KINDS[kind], verbosity=verbosity)
