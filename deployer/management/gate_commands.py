"""Shared by the commands that lock and unlock: the place that is named on the command line."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from deployer.declaring.reading import printable
from deployer.management.commandline import ActingCommand, current, refused
from projects.models import Project
from servers.models import Environment


class GateCommand(ActingCommand):
    """A command about an environment or a project."""

    def add_arguments(self, parser: CommandParser) -> None:
        where = parser.add_mutually_exclusive_group(required=True)
        where.add_argument("project", nargs="?", metavar="PROJECT", help=_("the name of the project"))
        where.add_argument("--environment", choices=Environment.values, help=_("all of an environment"))
        super().add_arguments(parser)

    def place(self, options: dict[str, Any]) -> dict[str, Any]:
        """The place as a gate has it; or a refusal."""
        if options["environment"]:
            return {"environment": options["environment"], "project": None}
        projects = Project.objects.reached_by(self.acting) if self.acting else Project.objects.all()
        found = current(projects, options["project"]).filter(name=options["project"]).first()
        if found is None:
            raise refused(_("There is no project “%s”.") % printable(options["project"]))
        return {"environment": "", "project": found}
