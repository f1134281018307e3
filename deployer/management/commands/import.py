"""``deployer import spug|semaphore FILE...``: another tool's things as YAML for ``deployer apply``."""  # noqa: N999 (a command may be called so)

from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer.declaring.reading import printable
from deployer.management.commandline import SpokenCommand, refused
from deployer.taking_over import semaphore, spug
from deployer.taking_over.taken import MOST_BYTES, NotReadableError, Taken

_SPUG, _SEMAPHORE = "spug", "semaphore"


class Command(SpokenCommand):
    summary = gettext_lazy(
        "Write what another tool has as YAML for “apply”: of Spug a dump of its database, of Semaphore the backup of a "
        "project. Nothing is changed here. What cannot be taken over is said by name; secrets never are."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("tool", choices=[_SPUG, _SEMAPHORE], help=_("the other tool"))
        parser.add_argument("files", nargs="+", metavar="FILE", help=_("a dump or a backup; several become one file"))
        parser.add_argument("--output", metavar="FILE", help=_("write to this new file instead of standard output"))
        parser.add_argument(
            "--user",
            default="root",
            metavar="NAME",
            help=_("the user name of logins that the backup does not name (Semaphore); without it, root"),
        )

    def handle(self, *args: Any, **options: Any) -> None:
        taken = Taken("Spug" if options["tool"] == _SPUG else "Semaphore")
        for name in options["files"]:
            data = _bytes(name)
            try:
                if options["tool"] == _SPUG:
                    spug.take(data, taken)
                else:
                    semaphore.take(data, taken, options["user"])
            except NotReadableError as error:
                words = {"file": printable(name), "why": str(error)}
                raise refused(_("%(file)s cannot be taken over. %(why)s") % words) from error
        try:
            text = taken.as_yaml()
        except NotReadableError as error:
            raise refused(str(error)) from error
        if options["output"]:
            _write(text, Path(options["output"]))
        else:
            self.stdout.write(text, ending="")
        for note in taken.notes:
            self.stderr.write(note, str)


def _write(text: str, path: Path) -> None:
    """Write a file that is not there yet."""
    try:
        with path.open("x", encoding="utf-8", newline="") as file:
            file.write(text)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise refused(_("%(file)s cannot be written: %(why)s.") % {"file": printable(str(path)), "why": why}) from error


def _bytes(name: str) -> bytes:
    """A file, and not more of it than is read of one."""
    try:
        with Path(name).open("rb") as file:
            return file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise refused(_("%(file)s cannot be read: %(why)s.") % {"file": printable(name), "why": why}) from error
