"""`deployer doctor`: what is not as it should be here, why, and what to do."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from deployer.management.commandline import SpokenCommand
from deployer.watching.finding import Finding, Level
from deployer.watching.installation import look_at_installation
from deployer.watching.running import look


def lines_of(found: Iterable[Finding]) -> Iterator[str]:
    """Findings as people read them on a terminal."""
    for it in found:
        yield f"{'✘' if it.level is Level.ERROR else '!'} {it.what}"
        yield from (f"    {line}" for line in filter(None, (it.why, it.remedy and f"→ {it.remedy}")))


class Command(SpokenCommand):
    summary = gettext_lazy(
        "Look for what is wrong with this installation: each finding says what, why and what to do. Exit with 0 where "
        "nothing is broken, 1 where something is; warnings alone are 0."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help=_("print one JSON object for each finding, one a line"))

    def handle(self, *_args: Any, **options: Any) -> None:
        found = sorted([*look_at_installation(), *look()], key=lambda it: it.level is not Level.ERROR)
        if options["json"]:
            for it in found:
                self.stdout.write(json.dumps(it.as_dict(), ensure_ascii=False))
        else:
            self._tell(found)
        if any(it.level is Level.ERROR for it in found):
            sys.exit(1)

    def _tell(self, found: Sequence[Finding]) -> None:
        for line in lines_of(found):
            self.stdout.write(line)
        broken = sum(it.level is Level.ERROR for it in found)
        if not found:
            self.stdout.write(f"✔ {_('Nothing is wrong here.')}")
        elif broken:
            self.stdout.write(
                ngettext("%(count)d thing is broken.", "%(count)d things are broken.", broken) % {"count": broken}
            )
