"""Shared by the operator's commands: refusals as one sentence, watching a deployment, the site's address."""

import os
import pwd
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import InterfaceError, OperationalError, ProgrammingError
from django.utils.translation import gettext as _

from deployer import __version__
from deployer.api.shapes import shape_of
from deployer.checks import RECORD
from deployer.database import UnknownMigrationsError, insist, refuse_unknown_migrations
from deployer.declaring.reading import printable
from deployer.host.addresses import site_address
from deployer.host.processes import HeldError, only_one
from deployer.keyring import MissingKeyError, refuse_missing_keys
from deployer.launching.rules import LaunchRefusedError
from deployer.log.reading import LogRow, News
from deployer.log.terminal import plain
from deployer.models import Deployment, DeploymentQuerySet
from people import rights
from people.models import User
from people.roles import Action
from projects.commands.proof import proof_in_words
from projects.models import ArchivedError, ProjectQuerySet
from servers.fields import DecryptionError
from servers.sentences import because, clauses, sentence, sentences

_Status = Deployment.Status

#: Exit status of what was refused, the same as argparse's for bad usage.
REFUSED = 2
EXIT_STATUS = {
    _Status.SUCCESS: 0,
    _Status.FAILED: 1,
    _Status.CANCELLED: 3,
    _Status.INTERRUPTED: 4,
    _Status.EXPIRED: 5,
}
#: What a shell reports for a program that Ctrl-C ended.
STOPPED_WATCHING = 130

_POLL = 0.25  # seconds between two looks
_PATIENCE = 10  # seconds until somebody is told that no worker has come
_OUTAGE = 60  # seconds that the database may be away while we watch


def refused(message: str) -> CommandError:
    """The end of a command that did nothing; ``message`` says why and what to do."""
    return CommandError(message, returncode=REFUSED)


@contextmanager
def one_data_folder() -> Iterator[None]:
    """For what runs alone on a data folder; raises `CommandError` where deployer runs on it already."""
    try:
        with only_one(Path(settings.DATA_DIR) / "up.lock"):
            yield
    except HeldError as error:
        raise CommandError(
            _(
                "deployer is already running on the data folder %(folder)s (process %(pid)s): stop it first, or set "
                "DEPLOYER_DATA_DIR to another folder."
            )
            % {"folder": settings.DATA_DIR, "pid": error.holder}
        ) from error


class SpokenCommand(BaseCommand):
    """A command whose help is in the language of the command line; ``summary`` says what it does."""

    summary: Any = ""

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        self.help = str(self.summary)  # the parser takes plain text only
        return super().create_parser(prog_name, subcommand, **kwargs)

    def get_version(self) -> str:
        return f"deployer {__version__}"


class OperatorCommand(SpokenCommand):
    """A command that ends foreseeable errors with a sentence and exit status 2, never with a traceback."""

    #: Checks of the code itself load every page and take as long as all the rest: `check` and `migrate` run them.
    requires_system_checks = (RECORD,)
    #: It does not start without one of the keys that the database counts on.
    needs_keys = True

    def execute(self, *args: Any, **options: Any) -> str | None:
        try:
            refuse_unknown_migrations()
            if self.needs_keys:
                refuse_missing_keys()
            return super().execute(*args, **options)
        except rights.NotAllowedError as error:
            raise refused(error.sentence) from error
        except (ArchivedError, DecryptionError, UnknownMigrationsError, MissingKeyError) as error:
            raise refused(str(error)) from error
        except (OperationalError, ProgrammingError) as error:
            raise refused(
                _("The database cannot be used: %(why)s. If it is new, run “deployer migrate” first.")
                % {"why": str(error).strip().rstrip(".")}
            ) from error


class ActingCommand(OperatorCommand):
    """A command that acts for a user with ``--as``, by their rights; else for whoever has the data folder.

    They have all that there is in any case: nothing is asked then.
    """

    acting: User | None = None

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--as", dest="acting", metavar="USER", help=_("act for this user: with their rights, under their name")
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if (name := options.get("acting")) is not None:
            self.acting = User.objects.filter(username=name, is_active=True).first()
            if self.acting is None:
                raise refused(_("There is no active user “%s”.") % printable(name))
        self.act(options)

    def act(self, options: dict[str, Any]) -> None:
        """Do it."""
        raise NotImplementedError

    @property
    def launcher(self) -> dict[str, Any]:
        """Who launches, for a launch."""
        return {"created_by": self.acting, "trigger": Deployment.Trigger.CLI, "launched_for": login_of_machine()}

    def operable(self, number: int) -> Deployment:
        """The deployment with this number, if they may operate it; or a refusal."""
        found = existing(number, Deployment.objects.reached_by(self.acting) if self.acting else None)
        if self.acting:
            rights.insist(self.acting, Action.OPERATE, found)
        return found


def login_of_machine() -> str:
    """The name of who calls this, on this machine; with sudo, who called that."""
    number = os.getuid()
    if number == 0 and (caller := os.environ.get("SUDO_USER")):
        return caller[:200]
    try:
        return pwd.getpwuid(number).pw_name[:200]
    except KeyError:
        return str(number)


class WatchingCommand(ActingCommand):
    """A command that starts a deployment and, with ``--wait``, watches it to its end."""

    to_stderr = False

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        self.add_wait(parser)
        parser.add_argument("--json", action="store_true", help=_("print one JSON object on standard output"))

    def add_gates(self, parser: CommandParser) -> None:
        """What is chosen of closed gates, by a command that launches."""
        parser.add_argument(
            "--queue", action="store_true", help=_("wait in line at a closed gate, and behind another deployment")
        )
        parser.add_argument(
            "--override", default="", metavar="REASON", help=_("set the gates aside, as an admin; the reason is kept")
        )

    def add_wait(self, parser: Any) -> None:
        parser.add_argument("--wait", action="store_true", help=_("print the log as it comes and wait for the end"))

    def report(self, deployment: Deployment, options: dict[str, Any]) -> None:
        """Print its address, watch it if asked to, and exit with the status of its end."""
        address = site_address(deployment.get_absolute_url())
        self.say(_("Deployment #%(number)s: %(address)s") % {"number": deployment.pk, "address": address})
        if deployment.is_in_line:
            self.say(printable(f"{deployment.get_status_display()}: {deployment.note}"))
        exit_status = 0
        if options["wait"]:
            try:
                deployment = self.watch(deployment.pk)
            except KeyboardInterrupt:
                self.say(
                    _(
                        "Stopped watching; the deployment continues. To cancel it: deployer cancel "
                        "%(number)s. To watch it: %(address)s"
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
        while (news := _news(number, last)).follows:
            self.print_rows(news.rows)
            last = news.last_id
            if news.status == _Status.PENDING and not told and time.monotonic() - began > _PATIENCE:
                self.say(
                    _(
                        "No worker has taken it for %(seconds)s seconds: none is running, or all are busy. “deployer"
                        " up” starts them. Still waiting."
                    )
                    % {"seconds": _PATIENCE},
                    error=True,
                )
                told = True
            if not news.is_full:
                time.sleep(_POLL)
        self.print_rows(news.rows)
        return Deployment.objects.select_related("created_by", "release").defer("plan").get(pk=number)

    def print_rows(self, rows: Iterable[LogRow]) -> None:
        for row in rows:
            server = f"{printable(row.server)} | " if row.server else ""
            self.say(server + plain(row.content))

    def summarise(self, deployment: Deployment) -> None:
        self.say("")
        for target in deployment.targets.all():
            # Where the proof is what is wrong, the error says it.
            proof = "" if target.error == target.proof.get("sentence") else proof_in_words(target.proof)
            words = [target.get_status_display(), proof, target.reason]
            said = _one_line(clauses(*words))
            self.say(sentence(because(printable(target.server_name), said)))
        end = _("Deployment #%(number)s: %(status)s.") % {
            "number": deployment.pk,
            "status": deployment.get_status_display(),
        }
        self.say(sentences(end, _one_line(deployment.error_message)))


class LaunchAgain(WatchingCommand):
    """A command that launches what follows from an earlier deployment."""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", type=int, metavar="ID", help=_("the number of the deployment"))
        self.add_gates(parser)
        super().add_arguments(parser)

    def act(self, options: dict[str, Any]) -> None:
        self.to_stderr = options["json"]
        earlier = self.operable(options["id"])
        try:
            launched = self.launch_from(
                earlier, queue=options["queue"], override=options["override"], **self.more(options)
            )
        except LaunchRefusedError as error:
            raise refused(error.message) from error
        self.report(launched, options)

    def more(self, options: dict[str, Any]) -> dict[str, Any]:
        """What else of the options is chosen for the new deployment."""
        return {}

    def launch_from(self, earlier: Deployment, **chosen: Any) -> Deployment:
        """The new deployment, with what is ``chosen`` of closed gates. Raises `LaunchRefusedError`."""
        raise NotImplementedError


def current(projects: ProjectQuerySet, *names: str) -> ProjectQuerySet:
    """Those of ``projects`` that are not archived; or a refusal where only an archived one has one of ``names``."""
    for name in names:
        archived = projects.archived().filter(name=name).first()
        if archived is not None and not projects.current().filter(name=name).exists():
            raise refused(archived.archived_sentence)
    return projects.current()


def existing(number: int, rows: DeploymentQuerySet | None = None) -> Deployment:
    """The deployment with this number, of ``rows`` if they are given; or a refusal."""
    rows = Deployment.objects.all() if rows is None else rows
    found = rows.select_related("project", "created_by").defer("plan").filter(pk=number).first()
    if found is None:
        raise unknown(number)
    return found


def unknown(number: int) -> CommandError:
    """The refusal where there is no such deployment, or none any more."""
    return refused(_("There is no deployment #%(number)s.") % {"number": number})


def _one_line(text: str) -> str:
    return plain(" ".join(text.splitlines()))


def _news(number: int, after: int) -> News:
    """The next rows, however often the connection to the database is lost in the meantime."""
    try:
        news = insist(lambda: News.of(number, after), _OUTAGE)
    except (OperationalError, InterfaceError) as error:
        raise CommandError(
            _("The database has not answered for %(seconds)s seconds: the outcome of the deployment is not known.")
            % {"seconds": _OUTAGE},
            returncode=EXIT_STATUS[_Status.INTERRUPTED],
        ) from error
    if news is None:
        raise unknown(number)
    return news
