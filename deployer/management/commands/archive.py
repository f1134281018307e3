"""``deployer archive PROJECT``: archive a project, and ``--restore`` it, as the pages do."""

from typing import Any

from django.core.management.base import CommandParser
from django.db import models
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from deployer.archiving.archive import archive, restore
from deployer.declaring.reading import printable
from deployer.management.commandline import ActingCommand, current, login_of_machine, refused
from deployer.models import LONGEST_REASON
from people.refusals import RefusedError
from projects.models import Project


class Command(ActingCommand):
    summary = gettext_lazy(
        "Archive a project: it is hidden and not launched any more, and its name is free. What runs on its servers "
        "keeps running. --restore takes that back."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("project", metavar="PROJECT", help=_("the name of the project"))
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--reason", default="", metavar="R", help=_("why; everybody sees it"))
        what.add_argument("--restore", action="store_true", help=_("show it again, and let it be launched"))
        parser.add_argument("--name", default="", metavar="NAME", help=_("with --restore: another name for it"))
        super().add_arguments(parser)

    def act(self, options: dict[str, Any]) -> None:
        name = options["project"]
        seen = Project.objects.reached_by(self.acting) if self.acting else Project.objects.all()
        try:
            if options["restore"]:
                project = _one(seen.archived(), name)
                restore(project, self.acting, options["name"])
                self.stdout.write(_("Project “%s” is restored.") % printable(project.name))
                return
            project = _one(current(seen, name), name)
            reason = " ".join(options["reason"].split())[:LONGEST_REASON]
            cancelled = archive(project, self.acting, reason, login_of_machine())
        except RefusedError as error:
            raise refused(str(error)) from error
        self.stdout.write(_("Project “%s” is archived; its name is free.") % printable(project.name))
        if cancelled:
            told = ngettext(
                "%d deployment that stood in line is cancelled.",
                "%d deployments that stood in line are cancelled.",
                cancelled,
            )
            self.stdout.write(told % cancelled)


def _one(rows: "models.QuerySet[Project]", name: str) -> Project:
    """The one of that name; or a refusal."""
    found = [*rows.filter(name=name)[:2]]
    if not found:
        raise refused(_("There is no project “%s”.") % printable(name))
    if len(found) > 1:
        raise refused(_("Several archived projects are called “%s”: restore one on its page.") % printable(name))
    return found[0]
