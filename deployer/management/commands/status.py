"""``deployer status [PROJECT ...]``: what the servers run, and whether that is what deployer left there."""

import json
import sys
from datetime import datetime
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from django.utils.timesince import timesince
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer.board.sightings import View, board, not_deployed_yet, refresh
from deployer.declaring.reading import printable
from deployer.log.terminal import plain
from deployer.management.commandline import OperatorCommand, current, refused
from projects.models import Project


class Command(OperatorCommand):
    summary = gettext_lazy(
        "Show what runs on which server, as last seen. Exit with 0 when everything is as deployer left it, 1 when "
        "something differs, did not end well there or could not be seen, 2 refused."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "projects", nargs="*", metavar="PROJECT", help=_("every project that was ever deployed, if none is named")
        )
        parser.add_argument("--look", action="store_true", help=_("ask the servers first"))
        parser.add_argument("--json", action="store_true", help=_("print one JSON object for each server, one a line"))

    def handle(self, *args: Any, **options: Any) -> None:
        known = current(Project.objects.all(), *options["projects"])
        projects = known.filter(deployments__isnull=False).distinct()
        if options["projects"]:
            projects = known.filter(name__in=options["projects"])
            for name in options["projects"]:
                if not any(project.name == name for project in projects):
                    raise refused(_("There is no project “%s”.") % printable(name))
        fine = True
        for project in projects:
            if options["look"]:
                refresh(project)
            for view in [*board(project), *not_deployed_yet(project)]:
                seen = view.sighting
                fine &= view.is_new or bool(seen and not seen.problem and not view.drift and not view.trouble)
                self.stdout.write(_as_json(project, view) if options["json"] else _as_text(project, view))
        if not fine:
            sys.exit(1)


def _as_text(project: Project, view: View) -> str:
    head = f"{printable(project.name)} | {printable(view.server.name)} | "
    seen = view.sighting
    if view.is_new:
        return head + _("nothing deployed there yet")
    if seen is None:
        return head + "; ".join([_("never looked at; use --look"), *([f"! {view.trouble}"] if view.trouble else [])])
    words = [seen.release or "–"]
    words += [process.in_short for process in seen.service[:4]]
    words.append(_("seen %(time)s ago") % {"time": _since(seen.seen_at)} if seen.seen_at else _("never seen"))
    words += [_("changed since then")] if view.is_outdated else []
    words += [_("left there: in none of the project's groups")] if view.is_away else []
    words += [f"! {remark}" for remark in [*view.drift, view.trouble] if remark]
    if seen.problem:
        ago = _("%(time)s ago") % {"time": _since(seen.failed_at)} if seen.failed_at else ""
        words.append(f"! {seen.problem} ({ago})" if ago else f"! {seen.problem}")
    return head + plain(" ".join("; ".join(words).splitlines()))


def _since(moment: datetime) -> str:
    return timesince(moment, timezone.now(), depth=1)


def _as_json(project: Project, view: View) -> str:
    seen = view.sighting
    return json.dumps(
        {
            "project": project.name,
            "server": view.server.name,
            "release": seen.release if seen else None,
            "recorded": view.left,
            "deployed": not view.is_new,
            "in_groups": not view.is_away,
            "processes": seen.processes if seen else [],
            "drift": view.drift,
            "problem": seen.problem if seen else "",
            "deployment": view.last.deployment if view.last else None,
            "status": view.last.status if view.last else None,
            "error": view.last.error if view.last else "",
            "seen_at": seen.seen_at.isoformat() if seen and seen.seen_at else None,
            "failed_at": seen.failed_at.isoformat() if seen and seen.failed_at else None,
        }
    )
