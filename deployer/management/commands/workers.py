"""`deployer workers`: who takes jobs from the queue, on which machine, and what each is doing."""

import json
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from django.utils.timesince import timesince
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer.declaring.reading import printable
from deployer.management.commandline import REFUSED, OperatorCommand
from deployer.management.commands.doctor import lines_of
from deployer.models import Deployment
from deployer.queue.rollcall import Present, RollCall, roll_call
from deployer.watching.finding import Level
from deployer.watching.running import of_workers

#: What a worker does at a job that has no number.
_AT = {
    "look": gettext_lazy("looks at servers"),
    "follow": gettext_lazy("follows logs"),
    "deliveries": gettext_lazy("judges what was sent to webhooks"),
    "upkeep": gettext_lazy("deletes and packs what is old"),
    "": gettext_lazy("waits"),
}


class Command(OperatorCommand):
    summary = gettext_lazy(
        "Show the workers of all machines: what each takes and does, since when it is there, its last sign of life, "
        "and how many jobs wait. Exit with 0, 1 when no worker takes deployments, 2 when the queue does not answer."
    )
    needs_keys = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help=_("print one JSON object"))

    def handle(self, *_args: Any, **options: Any) -> None:
        called = roll_call()
        found = [*of_workers(called)]
        if called is not None and options["json"]:
            self.stdout.write(json.dumps(_as_dict(called), ensure_ascii=False))
        elif called is not None:
            for line in _as_text(called):
                self.stdout.write(line)
        for line in lines_of(found):
            self.stderr.write(line)
        if called is None:
            sys.exit(REFUSED)
        if any(it.level is Level.ERROR for it in found):
            sys.exit(1)


def _deployments(called: RollCall) -> dict[int, Deployment]:
    """The deployments that workers are at."""
    numbers = {it.deployment for it in called.workers if it.deployment is not None}
    rows = Deployment.objects.filter(pk__in=numbers).select_related("project")
    return {it.pk: it for it in rows.only("status", "project__name")}


def _as_text(called: RollCall) -> Iterator[str]:
    known = _deployments(called)
    for it in sorted(called.workers, key=lambda it: (it.machine, it.pid)):
        where = _("%(machine)s, process %(pid)d") % {"machine": printable(it.machine) or "?", "pid": it.pid}
        words = [where, ", ".join(it.kinds) or "–", _job(it, known)]
        words += [_("there for %s") % timesince(it.began, timezone.now(), depth=1)] if it.began else []
        words += [_("last sign of life %s ago") % _age(it.beat)] if it.beat else []
        words += [] if it.is_alive else [f"! {_('silent')}"]
        yield " | ".join(words)
    if not called.workers:
        yield _("The queue knows no worker.")
    yield _("Waiting: %s") % ", ".join(f"{name} {count}" for name, count in called.waiting.items())


def _job(it: Present, known: dict[int, Deployment]) -> str:
    if (number := it.deployment) is not None:
        if (row := known.get(number)) is None:
            return _("deployment #%s") % number
        words = {"number": number, "project": printable(row.project.name), "status": row.get_status_display()}
        if it.is_helping:
            return _("helps with deployment #%(number)s of %(project)s: %(status)s") % words
        return _("deployment #%(number)s of %(project)s: %(status)s") % words
    if it.command is not None:
        return _("command #%s") % it.command
    return str(_AT.get(it.job, printable(it.job)))


def _age(moment: datetime) -> str:
    seconds = int((timezone.now() - moment).total_seconds())
    return _("%(seconds)s s") % {"seconds": max(seconds, 0)} if seconds < 120 else timesince(moment, depth=1)


def _as_dict(called: RollCall) -> dict[str, Any]:
    known = _deployments(called)
    return {"workers": [_row(it, known) for it in called.workers], "waiting": called.waiting}


def _row(it: Present, known: dict[int, Deployment]) -> dict[str, Any]:
    row = known.get(it.deployment or 0)
    return {
        "name": it.name,
        "machine": it.machine,
        "pid": it.pid,
        "takes": [*it.kinds],
        "is_alive": it.is_alive,
        "since": it.began.isoformat() if it.began else None,
        "last_sign": it.beat.isoformat() if it.beat else None,
        "job": it.job,
        "deployment": it.deployment,
        "project": row.project.name if row else None,
        "status": row.status if row else None,
        "command": it.command,
    }
