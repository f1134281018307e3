"""``deployer triggers PROJECT``: hold what launches a project by itself, and lift that again."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer.declaring.reading import printable
from deployer.gates.trigger_holds import hold_triggers, release_triggers
from deployer.management.commandline import ActingCommand, current, login_of_machine, refused
from deployer.queue.turn import call_up
from projects.models import Project


class Command(ActingCommand):
    summary = gettext_lazy("Hold what launches a project by itself, or lift that: webhooks, schedules and trains.")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("project", metavar="PROJECT", help=_("the name of the project"))
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("--hold", metavar="REASON", help=_("let nothing launch it by itself, and say why"))
        what.add_argument("--lift", action="store_true", help=_("let it be launched again, as after a rollback"))
        super().add_arguments(parser)

    def act(self, options: dict[str, Any]) -> None:
        projects = Project.objects.reached_by(self.acting) if self.acting else Project.objects.all()
        project = current(projects, options["project"]).filter(name=options["project"]).first()
        if project is None:
            raise refused(_("There is no project “%s”.") % printable(options["project"]))
        login = login_of_machine()
        if options["lift"]:
            if not release_triggers(project, self.acting, login):
                raise refused(_("What launches %s by itself is not held.") % project)
            call_up(project.pk)
            self.stdout.write(_("The hold is lifted."))
            return
        if not options["hold"].strip():
            raise refused(_("Say why they are held."))
        if not hold_triggers(project, options["hold"], self.acting, login):
            raise refused(_("What launches %s by itself is held already.") % project)
        self.stdout.write(_("What launches %s by itself is held.") % project)
