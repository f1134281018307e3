"""``deployer deploy PROJECT``: launch a deployment and, if asked to, watch it to its end."""

import argparse
import sys
from pathlib import Path
from typing import Any, TypeVar

from django.core.management.base import CommandParser
from django.db import models
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer.api.shapes import preflight_shape
from deployer.declaring.reading import printable
from deployer.launching.asked import LaunchRequest
from deployer.launching.beforehand import preflight_of
from deployer.launching.choice import PREVIOUS, on_servers, with_release
from deployer.launching.launch import launch
from deployer.launching.rules import LaunchRefusedError
from deployer.log.terminal import plain
from deployer.management.commandline import WatchingCommand, current, refused
from deployer.models import Deployment
from deployer.probing.look import Finding
from deployer.releases.archives import StoreError
from deployer.releases.contents import UnsafeArchiveError
from deployer.releases.packages import KINDS, names_alike, store_package
from deployer.releases.reader.names import ENCODINGS
from people.rights import insist
from people.roles import Action
from projects.models import Project
from projects.validators import LONGEST_PAUSE, LONGEST_QUESTION
from servers.models import ServerGroup

_Named = TypeVar("_Named", bound=models.Model)

_NAMED = 20  # known names that a refusal lists


class Command(WatchingCommand):
    summary = gettext_lazy(
        "Launch a deployment. With --wait, print its log as it comes and exit with 0 success, 1 failed, 2 refused, 3 "
        "cancelled, 4 interrupted, 5 expired. With --check, launch nothing: check on every server whether the "
        "deployment can work, and exit with 0 no errors, 1 errors found, 2 refused."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        types = Deployment.Type
        parser.add_argument("project", metavar="PROJECT", help=_("the name of the project"))
        parser.add_argument(
            "--group",
            action="append",
            default=[],
            metavar="G",
            help=_("a server group; repeatable; the project's own groups if none is named"),
        )
        parser.add_argument(
            "--server",
            action="append",
            default=[],
            metavar="S",
            help=_("only this server of the groups; repeatable; the others are left as they are"),
        )
        parser.add_argument(
            "--elsewhere",
            action="store_true",
            help=_("a group is none of the project's own, and that is meant"),
        )
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--branch", default="", metavar="B", help=_("instead of the project's default"))
        what.add_argument(
            "--release",
            metavar="VERSION",
            help=_("a stored release, of this or another project of the same repository"),
        )
        what.add_argument(
            "--package",
            type=Path,
            metavar="FILE",
            help=_("an archive or a jar that was built elsewhere: %s") % ", ".join(KINDS),
        )
        parser.add_argument(
            "--encoding",
            choices=[*ENCODINGS],
            default="",
            help=_("with --package: the encoding of the names in it, where it does not say that and it is not UTF-8"),
        )
        what.add_argument(
            "--rollback-to", metavar="VERSION", help=_("deploy an earlier release again, or “%s”") % PREVIOUS
        )
        parser.add_argument(
            "--rebuild",
            action="store_true",
            help=_("build again even if a release of the same commit and settings is stored"),
        )
        parser.add_argument(
            "--batches", default="", metavar="B", help=_("instead of the project's, like “1, 25%%, 100%%”")
        )
        parser.add_argument(
            "--max-failures", type=_count, metavar="N", help=_("instead of the project's failure budget")
        )
        parser.add_argument(
            "--set",
            action="append",
            default=[],
            type=_answer,
            metavar="NAME=VALUE",
            help=_("the answer to a variable that the project asks for; repeatable"),
        )
        parser.add_argument(
            "--overwrite-changed",
            action="store_true",
            help=_("replace config files that somebody has changed on a server"),
        )
        parser.add_argument(
            "--pause-after",
            default="",
            metavar="B",
            help=_("wait behind these batches, like “1, 3”, “every” or “none”"),
        )
        parser.add_argument("--pause-for", type=_seconds, metavar="S", help=_("seconds of a pause, 0 for no end"))
        parser.add_argument(
            "--guided",
            action=argparse.BooleanOptionalAction,
            default=None,
            help=_("ask what to do where more servers fail than allowed, or a step fails"),
        )
        parser.add_argument(
            "--guided-for", type=_minutes, metavar="M", help=_("stop after so many minutes without an answer")
        )
        self.add_gates(parser)
        parser.add_argument(
            "--stays-in-line", action="store_true", help=_("with --queue: also where another launch waits already")
        )
        parser.add_argument("--type", choices=types.values, default=types.FULL.value, help="default: %(default)s")
        super().add_arguments(parser)

    def add_wait(self, parser: Any) -> None:
        either = parser.add_mutually_exclusive_group()
        super().add_wait(either)
        either.add_argument("--check", action="store_true", help=_("check every server and launch nothing"))

    def act(self, options: dict[str, Any]) -> None:
        self.to_stderr = options["json"]
        try:
            request = self.request(options)
            if not options["check"]:
                self.report(launch(request), options)
                return
            findings = preflight_of(request)
        except LaunchRefusedError as error:
            raise refused(error.message) from error
        self.show(findings, as_json=options["json"])

    def request(self, options: dict[str, Any]) -> LaunchRequest:
        """What the arguments ask for; a package is stored first."""
        projects, all_groups = Project.objects.all(), ServerGroup.objects.all()
        if self.acting:
            projects, all_groups = projects.reached_by(self.acting), all_groups.reached_by(self.acting)
        project = _named(current(projects, options["project"]), options["project"])
        groups = [_named(all_groups, name) for name in dict.fromkeys(options["group"])] or project.groups_to_launch()
        if self.acting:
            insist(self.acting, Action.OPERATE, project)
        if not groups:
            told = _("Project “%s” belongs to no group yet: name the groups with --group, or choose where it belongs.")
            raise refused(told % printable(project.name))
        asked = LaunchRequest(
            project,
            groups,
            deployment_type=options["type"],
            branch=options["branch"],
            **self.launcher,
            rebuild=options["rebuild"],
            elsewhere=options["elsewhere"],
            batches=options["batches"],
            max_failures=options["max_failures"],
            pause_after=options["pause_after"],
            pause_for=options["pause_for"],
            guided_failure=options["guided"],
            guided_for=options["guided_for"],
            queue=options["queue"],
            stays_in_line=options["stays_in_line"],
            override=options["override"],
            answers=dict(options["set"]),
            overwrite_changed=options["overwrite_changed"],
        )
        request = on_servers(asked, options["server"])
        version = options["release"] or options["rollback_to"]
        if options["encoding"] and not options["package"]:
            raise refused(_("--encoding is that of the names in a package: name one with --package."))
        if options["package"]:
            version = self.stored(project, options["package"], options["encoding"])
        return with_release(request, version, rolls_back=bool(options["rollback_to"])) if version else request

    def stored(self, project: Project, path: Path, encoding: str) -> str:
        """The version as which the package at ``path`` is stored."""
        try:
            with path.open("rb") as file:
                release = store_package(project, path.name, file, encoding=encoding, created_by=self.acting)
            warning = names_alike(release)
        except (UnsafeArchiveError, StoreError) as error:
            raise refused(str(error)) from error
        except OSError as error:
            raise refused(
                _("The package %(path)s cannot be read: %(why)s.")
                % {"path": printable(str(path)), "why": error.strerror or error}
            ) from error
        words = {"path": printable(path.name), "version": release.version}
        self.say(_("%(path)s is stored as release %(version)s") % words)
        if warning:
            self.say(printable(warning))
        return release.version

    def show(self, findings: list[Finding], *, as_json: bool) -> None:
        """Print what was found; exit with 1 if there is an error among it."""
        shape = preflight_shape(findings)
        if as_json:
            self.stdout.write(shape.model_dump_json())
        else:
            for finding in findings:
                words = " | ".join(filter(None, [finding.level, printable(finding.server), plain(str(finding))]))
                self.say(" ".join(words.splitlines()))
            self.say(
                _("No problem was found.") if shape.ok else _("The deployment would fail: correct the errors first.")
            )
        if not shape.ok:
            sys.exit(1)


def _count(text: str) -> int:
    if not text.isdecimal() or len(text) > 5:
        raise argparse.ArgumentTypeError(_("%s is not a whole number of at least 0") % repr(text))
    return int(text)


def _answer(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not (name and sign):
        raise argparse.ArgumentTypeError(_("expected NAME=VALUE"))  # the text may hold a secret
    return name, value


def _seconds(text: str) -> int:
    return _between(text, 0, LONGEST_PAUSE)


def _minutes(text: str) -> int:
    return _between(text, 1, LONGEST_QUESTION)


def _between(text: str, least: int, most: int) -> int:
    if not text.isdecimal() or len(text) > 6 or not least <= int(text) <= most:
        told = _("%(given)s is not a whole number from %(least)d to %(most)d")
        raise argparse.ArgumentTypeError(told % {"given": repr(text), "least": least, "most": most})
    return int(text)


def _named(rows: "models.QuerySet[_Named]", name: str) -> _Named:
    """The row of that name; or a refusal that lists the names there are."""
    names = [*rows.values_list("name", flat=True)]
    if name not in names:
        listed = ", ".join(printable(each) for each in names[:_NAMED]) or _("none yet; declare some with “apply”")
        raise refused(
            _("There is no %(kind)s “%(name)s”. Known names: %(names)s%(more)s.")
            % {
                "kind": rows.model._meta.verbose_name,
                "name": printable(name),
                "names": listed,
                "more": ", …" if len(names) > _NAMED else "",
            }
        )
    return rows.get(name=name)
