"""``deployer train NAME``: launch a train and, if asked to, follow it to its end."""

import argparse
import sys
import time
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer.database import insist as insist_on_database
from deployer.declaring.reading import printable
from deployer.host.addresses import site_address
from deployer.log.terminal import plain
from deployer.management.commandline import STOPPED_WATCHING, ActingCommand, refused
from deployer.models import Train, TrainRun, TrainStop
from deployer.trains.driving import drive
from deployer.trains.launch import launch_train
from deployer.trains.planned import TrainRefusedError, named_answers

_Run = TrainRun.Status
_EXIT_STATUS = {
    _Run.SUCCESS: 0,
    _Run.FAILED: 1,
    _Run.HALTED: 1,
    _Run.ROLLED_BACK: 1,
    _Run.CANCELLED: 3,
    _Run.EXPIRED: 5,
}
_POLL = 0.5  # seconds between two looks
_NAMED = 20  # trains that a refusal lists


class Command(ActingCommand):
    summary = gettext_lazy(
        "Launch a train: several projects as one plan. With --follow, print what becomes of each stop and "
        "exit with 0 success, 1 failed, halted or rolled back, 2 refused, 3 cancelled, 5 expired."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("name", metavar="NAME", help=_("the name of the train"))
        parser.add_argument("--note", default="", metavar="TEXT", help=_("why; kept with the run"))
        parser.add_argument(
            "--set",
            action="append",
            default=[],
            type=_answer,
            metavar="PROJECT:NAME=VALUE",
            help=_("the answer to a variable that a project of it asks for; repeatable"),
        )
        parser.add_argument("--follow", action="store_true", help=_("print what becomes of each stop until the end"))

    def act(self, options: dict[str, Any]) -> None:
        try:
            train = self._train(options["name"])
            answers = named_answers(train, _by_project(options["set"]))
            run = launch_train(train, note=options["note"], answers=answers, **self.launcher)
        except TrainRefusedError as error:
            raise refused(plain(" ".join(error.message.splitlines()))) from error
        address = site_address(run.get_absolute_url())
        self._say(_("Train #%(number)s: %(address)s") % {"number": run.pk, "address": address})
        if not options["follow"]:
            return
        try:
            run = self._follow(run.pk)
        except KeyboardInterrupt:
            self.stderr.write(_("Stopped watching; the train goes on: %s") % address, str)
            sys.exit(STOPPED_WATCHING)
        words = {"number": run.pk, "status": run.get_status_display()}
        self._say(" ".join(filter(None, [_("Train #%(number)s: %(status)s.") % words, run.why])))
        if status := _EXIT_STATUS[_Run(run.status)]:
            sys.exit(status)

    def _train(self, name: str) -> Train:
        rows = Train.objects.reached_by(self.acting) if self.acting else Train.objects.all()
        found = rows.filter(name=name).first()
        if found is None:
            known = [printable(each) for each in rows.values_list("name", flat=True)[: _NAMED + 1]]
            listed = ", ".join(known[:_NAMED]) + (", …" if len(known) > _NAMED else "")
            told = _("There is no train “%(name)s”. Known names: %(names)s.")
            raise refused(told % {"name": printable(name), "names": listed or _("none yet")})
        return found

    def _follow(self, number: int) -> TrainRun:
        """Print each change of a stop until the run has ended, or waits for somebody's decision after a failure."""
        told: dict[int, tuple[str, str]] = {}
        while True:
            drive(number)
            run, stops = insist_on_database(lambda: _seen(number))
            for stop in stops:
                now = (stop.status, stop.why)
                if told.get(stop.position, (TrainStop.Status.WAITING.value, "")) != now:
                    words = [f"{stop}: {stop.get_status_display()}", stop.why]
                    self._say(". ".join(filter(None, words)))
                told[stop.position] = now
            if run.status in _EXIT_STATUS:
                return run
            time.sleep(_POLL)

    def _say(self, text: str) -> None:
        self.stdout.write(plain(" ".join(text.splitlines())), str)
        self.stdout.flush()


def _answer(text: str) -> tuple[str, str, str]:
    named, sign, value = text.partition("=")
    project, colon, name = named.rpartition(":")
    if not (project and colon and name and sign):
        raise argparse.ArgumentTypeError(_("expected PROJECT:NAME=VALUE"))  # the text may hold a secret
    return project, name, value


def _by_project(given: list[tuple[str, str, str]]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for project, name, value in given:
        found.setdefault(project, {})[name] = value
    return found


def _seen(number: int) -> tuple[TrainRun, list[TrainStop]]:
    run = TrainRun.objects.filter(pk=number).first()
    if run is None:
        raise refused(_("There is no train #%s.") % number)
    return run, list(run.stops.all())
