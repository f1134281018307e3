"""``deployer command run|cancel|list``: run a saved command or a line on servers, as the page does."""

import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser
from django.db.models import QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer.api.command_shapes import shape_of_run
from deployer.commanding.asked import USUAL_TIMEOUT, CommandRefusedError, CommandRequest
from deployer.commanding.launch import cancel_command, cancel_sentence, run_command
from deployer.database import insist as insist_on_database
from deployer.declaring.reading import printable
from deployer.host.addresses import site_address
from deployer.log.books import COMMANDS
from deployer.log.reading import News
from deployer.log.terminal import plain
from deployer.management.commandline import STOPPED_WATCHING, ActingCommand, refused
from deployer.models import CommandRun, SavedCommand
from people import rights
from people.roles import Action
from servers.models import Server, ServerGroup

_EXIT_STATUS = {
    CommandRun.Status.SUCCESS: 0,
    CommandRun.Status.FAILED: 1,
    CommandRun.Status.CANCELLED: 3,
    CommandRun.Status.INTERRUPTED: 4,
}
_POLL = 0.25  # seconds between two looks


class Command(ActingCommand):
    summary = gettext_lazy("Run a saved command, or a line for bash, once on each chosen server; cancel a run.")

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        ways = parser.add_subparsers(dest="way", required=True, metavar="WAY")
        run = ways.add_parser("run", help=_("run one"))
        what = run.add_mutually_exclusive_group(required=True)
        what.add_argument("--saved", metavar="NAME", help=_("the name of a saved command"))
        what.add_argument("--line", metavar="TEXT", help=_("a line for bash"))
        what.add_argument("--file", metavar="FILE", help=_("a script for bash, in a file of this machine"))
        run.add_argument("--server", action="append", default=[], metavar="NAME", help=_("on this server"))
        run.add_argument("--group", action="append", default=[], metavar="NAME", help=_("on the servers of this group"))
        run.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help=_("a parameter"))
        run.add_argument(
            "--set-from", action="append", default=[], metavar="NAME=FILE", help=_("a parameter that stands in a file")
        )
        run.add_argument("--run-as", default="", metavar="USER", help=_("as this user of the servers, by sudo"))
        run.add_argument("--timeout", type=int, default=USUAL_TIMEOUT, metavar="SECONDS", help=_("time limit"))
        run.add_argument("--one-by-one", action="store_true", help=_("one server after the other, until it fails"))
        run.add_argument(
            "--not-while-deploying", action="store_true", help=_("leave out servers that a deployment works on")
        )
        run.add_argument("--yes", action="store_true", help=_("servers of production are meant"))
        run.add_argument("--wait", action="store_true", help=_("print the log as it comes and wait for the end"))
        run.add_argument("--json", action="store_true", help=_("print one JSON object on standard output"))
        cancel = ways.add_parser("cancel", help=_("stop a run: what runs on servers is ended"))
        cancel.add_argument("id", type=int, metavar="ID", help=_("the number of the run"))
        ways.add_parser("list", help=_("list the saved commands"))

    def act(self, options: dict[str, Any]) -> None:
        {"run": self._run, "cancel": self._cancel, "list": self._list}[options["way"]](options)

    def _run(self, options: dict[str, Any]) -> None:
        try:
            run = run_command(self._asked(options))
        except CommandRefusedError as error:
            raise refused(error.message) from error
        to = self.stderr if options["json"] else self.stdout
        words = {"number": run.pk, "address": site_address(run.get_absolute_url())}
        to.write(_("Command #%(number)s: %(address)s") % words, str)
        if options["wait"]:
            try:
                self._watch(run.pk, to)
            except KeyboardInterrupt:
                told = _("Stopped watching; the command goes on. To end it: deployer command cancel %s") % run.pk
                self.stderr.write(told, str)
                sys.exit(STOPPED_WATCHING)
        run.refresh_from_db()
        if options["wait"]:
            for target in run.targets.all():
                to.write(printable(f"{target.server_name}: {target.get_status_display()}. {target.error}"), str)
        if options["json"]:
            self.stdout.write(shape_of_run(run).model_dump_json())
        if options["wait"] and (status := _EXIT_STATUS[CommandRun.Status(run.status)]):
            sys.exit(status)

    def _asked(self, options: dict[str, Any]) -> CommandRequest:
        saved = None
        if options["saved"] is not None:
            saved = self._seen(SavedCommand.objects).filter(name=options["saved"]).first()
            if saved is None:
                raise refused(_("There is no saved command “%s”.") % printable(options["saved"]))
        script = options["line"] or ""
        if options["file"] is not None:
            script = _read(options["file"])
        return CommandRequest(
            groups=self._named(ServerGroup.objects, options["group"], _("There is no group “%s”.")),
            servers=self._named(Server.objects, options["server"], _("There is no server “%s”.")),
            saved=saved,
            script=script,
            values={
                **dict(map(_pair, options["set"])),
                **{name: _read(path).rstrip("\n") for name, path in map(_pair, options["set_from"])},
            },
            run_as=options["run_as"],
            timeout=options["timeout"],
            one_by_one=options["one_by_one"],
            not_while_deploying=options["not_while_deploying"],
            confirmed=options["yes"],
            **self.launcher,
        )

    def _seen(self, rows: Any) -> "QuerySet[Any]":
        found: QuerySet[Any] = rows.reached_by(self.acting) if self.acting else rows.all()
        return found

    def _named(self, rows: Any, names: Iterable[str], missing: str) -> list[Any]:
        wanted = list(dict.fromkeys(names))
        found = {row.name: row for row in self._seen(rows).filter(name__in=wanted)}
        for name in wanted:
            if name not in found:
                raise refused(missing % printable(name))
        return [found[name] for name in wanted]

    def _watch(self, number: int, to: Any) -> None:
        """Print the log as it comes until the run has ended."""
        last, follows = 0, True
        while follows:
            news = insist_on_database(lambda after=last: News.of(number, after, COMMANDS))  # type: ignore[misc]
            if news is None:
                raise refused(_("There is no command #%s.") % number)
            for row in news.rows:
                to.write((f"{printable(row.server)} | " if row.server else "") + plain(row.content), str)
            to.flush()
            last, follows = news.last_id, news.follows
            if follows and not news.is_full:
                time.sleep(_POLL)

    def _cancel(self, options: dict[str, Any]) -> None:
        run = self._seen(CommandRun.objects).filter(pk=options["id"]).first()
        if run is None:
            raise refused(_("There is no command #%s.") % options["id"])
        if self.acting:
            rights.insist(self.acting, Action.RUN, run)
        asked = cancel_command(run)
        if not asked:
            raise refused(cancel_sentence(run, asked))
        self.stdout.write(cancel_sentence(run, asked))

    def _list(self, _options: dict[str, Any]) -> None:
        for saved in self._seen(SavedCommand.objects).prefetch_related("parameters"):
            names = " ".join(f"{parameter.name}=" for parameter in saved.parameters.all())
            self.stdout.write(printable(f"{saved.name}  {names}".rstrip()))


def _pair(text: str) -> tuple[str, str]:
    name, is_pair, value = text.partition("=")
    if not is_pair:
        raise refused(_("“%s” is not NAME=VALUE.") % printable(text))
    return name, value


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise refused(_("%(file)s cannot be read: %(why)s.") % {"file": printable(path), "why": error}) from error
