"""`deployer version`: which deployer this is."""

from json import dumps
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer import __version__
from deployer.management.commandline import SpokenCommand


class Command(SpokenCommand):
    summary = gettext_lazy("Print the version of deployer.")
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help=_("print one JSON object on standard output"))

    def handle(self, *_args: Any, json: bool, **_options: Any) -> None:
        self.stdout.write(dumps({"version": __version__}) if json else f"deployer {__version__}")
