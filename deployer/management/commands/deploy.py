"""``manage.py deploy PROJECT --group G``: launch a deployment and, if asked to, watch it to its end."""

import sys
import time
from collections.abc import Iterable
from typing import Any, TypeVar

from django.core.management.base import CommandError, CommandParser
from django.db import InterfaceError, OperationalError, models
from django.utils.translation import gettext as _

from deployer.commandline import OperatorCommand, refused, site_address
from deployer.database import insist
from deployer.declaration import printable
from deployer.launch import Launch, LaunchRefusedError, launch
from deployer.models import Deployment, LogLine
from deployer.shape import LOG_PAGE, LogPage, log_after, shape_of
from deployer.terminal import plain
from projects.models import Project
from servers.models import ServerGroup

_Named = TypeVar("_Named", bound=models.Model)
_Status = Deployment.Status

EXIT_STATUS = {_Status.SUCCESS: 0, _Status.FAILED: 1, _Status.CANCELLED: 3, _Status.INTERRUPTED: 4}
#: What a shell reports for a program that Ctrl-C ended.
STOPPED_WATCHING = 130

_POLL = 0.25  # seconds between two looks
_PATIENCE = 10  # seconds until somebody is told that no worker has come
_OUTAGE = 60  # seconds that the database may be away while we watch
_NAMED = 20  # known names that a refusal lists


class Command(OperatorCommand):
    help = (
        "Launch a deployment. With --wait, print its log as it comes and exit with 0 success, 1 failed, "
        "2 refused, 3 cancelled, 4 interrupted."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        types = Deployment.Type
        parser.add_argument("project", metavar="PROJECT", help="the name of the project")
        parser.add_argument("--group", action="append", required=True, metavar="G", help="a server group; repeatable")
        parser.add_argument("--branch", default="", metavar="B", help="instead of the project's default")
        parser.add_argument("--type", choices=types.values, default=types.FULL.value, help="default: %(default)s")
        parser.add_argument("--wait", action="store_true", help="print the log as it comes and wait for the end")
        parser.add_argument("--json", action="store_true", help="print one JSON object on standard output")

    def handle(self, *args: Any, **options: Any) -> None:
        self.to_stderr = options["json"]
        deployment = _launched(options)
        address = site_address(deployment.get_absolute_url())
        self.say(_("Deployment #%(number)s: %(address)s") % {"number": deployment.pk, "address": address})
        exit_status = 0
        if options["wait"]:
            try:
                deployment = self.watch(deployment.pk)
            except KeyboardInterrupt:
                self.say(
                    _(
                        "No longer watching; the deployment goes on. "
                        "To cancel it: python manage.py cancel %(number)s. To watch it: %(address)s"
                    )
                    % {"number": deployment.pk, "address": address},
                    error=True,
                )
                sys.exit(STOPPED_WATCHING)
            self.summarise(deployment)
            exit_status = EXIT_STATUS[_Status(deployment.status)]
        if options["json"]:
            self.stdout.write(shape_of(deployment).model_dump_json())
        if exit_status:
            sys.exit(exit_status)

    def say(self, text: str, *, error: bool = False) -> None:
        """A line for people, at once: on standard output unless that belongs to the JSON object."""
        stream = self.stderr if error or self.to_stderr else self.stdout
        stream.write(text, str)
        stream.flush()

    def watch(self, number: int) -> Deployment:
        """Print the log as it comes until the deployment has ended."""
        began, told, last = time.monotonic(), False, 0
        while not (page := _page(number, last)).done:
            self.print_lines(page.lines)
            last = page.last_id
            if page.status == _Status.PENDING and not told and time.monotonic() - began > _PATIENCE:
                self.say(
                    _(
                        "No worker has taken it for %(seconds)s seconds: none is running, or all are busy. "
                        "“python manage.py up” starts them. Waiting on."
                    )
                    % {"seconds": _PATIENCE},
                    error=True,
                )
                told = True
            if len(page.lines) < LOG_PAGE:
                time.sleep(_POLL)
        self.print_lines(page.lines)
        return Deployment.objects.select_related("created_by").defer("plan").get(pk=number)

    def print_lines(self, lines: Iterable[LogLine]) -> None:
        for line in lines:
            server = f"{printable(line.target.server_name)} | " if line.target else ""
            self.say(server + plain(line.content))

    def summarise(self, deployment: Deployment) -> None:
        self.say("")
        for target in deployment.targets.all():
            words = [target.get_status_display(), str(target.proof.get("sentence", "")), target.error]
            said = "; ".join(word.strip().rstrip(".") for word in words if word.strip())
            self.say(f"{printable(target.server_name)}: {_one_line(said)}.")
        end = _("Deployment #%(number)s: %(status)s.") % {
            "number": deployment.pk,
            "status": deployment.get_status_display(),
        }
        self.say(f"{end} {_one_line(deployment.error_message)}".rstrip())


def _one_line(text: str) -> str:
    return plain(" ".join(text.splitlines()))


def _launched(options: dict[str, Any]) -> Deployment:
    project = _named(Project, options["project"])
    groups = [_named(ServerGroup, name) for name in dict.fromkeys(options["group"])]
    wish = Launch(
        project,
        groups,
        deployment_type=options["type"],
        branch=options["branch"],
        trigger=Deployment.Trigger.CLI,
    )
    try:
        return launch(wish)
    except LaunchRefusedError as error:
        raise refused(error.message) from error


def _named(model: type[_Named], name: str) -> _Named:
    """The row of that name; or a refusal that lists the names there are."""
    names = [*model._default_manager.values_list("name", flat=True)]
    if name not in names:
        listed = ", ".join(printable(each) for each in names[:_NAMED]) or _("none yet; declare some with “apply”")
        raise refused(
            _("There is no %(kind)s “%(name)s”. There are: %(names)s%(more)s.")
            % {
                "kind": model._meta.verbose_name,
                "name": printable(name),
                "names": listed,
                "more": ", …" if len(names) > _NAMED else "",
            }
        )
    return model._default_manager.get(name=name)


def _page(number: int, after: int) -> LogPage:
    """The next lines, however often the connection to the database is lost meanwhile."""
    try:
        return insist(lambda: log_after(number, after), _OUTAGE)
    except (OperationalError, InterfaceError) as error:
        raise CommandError(
            _("The database has not answered for %(seconds)s seconds; nobody knows how the deployment ended.")
            % {"seconds": _OUTAGE},
            returncode=EXIT_STATUS[_Status.INTERRUPTED],
        ) from error
