"""`deployer units`: units of systemd for this installation, printed or written."""

import os
import pwd
import re
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer.host.given import CREDENTIALS, is_in_file
from deployer.host.processes import hand_over
from deployer.host.units import Place, apart, in_one, next_steps, of_a_user
from deployer.management.commandline import SpokenCommand, refused


class Command(SpokenCommand):
    summary = gettext_lazy(
        "Print units of systemd for this installation: one that runs `up`, or with --apart one for each part. With "
        "--write they are written, by root for the system, by anybody else for their own manager."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--apart", action="store_true", help=_("one unit for each part, and a target for all"))
        parser.add_argument("--user", default="deployer", help=_("whom they run as: a user that is there"))
        parser.add_argument("--write", action="store_true", help=_("write them, and say what to run next"))

    def handle(self, *_args: Any, **options: Any) -> None:
        user = options["user"]
        if not re.fullmatch(r"[a-z_][a-z0-9_-]{0,31}", user):
            raise refused(_("“%s” is no name of a user.") % user)
        if options["apart"] and settings.QUEUE_IS_EMBEDDED:
            raise refused(
                _("The parts need a queue server of their own: set REDIS_URL. Without one, leave --apart away.")
            )
        host, port = settings.DEPLOYER_BIND
        place = Place(_program(), user, Path(settings.DATA_DIR), f"{host}:{port}", _is_bound_here())
        is_root = os.geteuid() == 0
        if options["apart"]:
            units = apart(place, settings.DEPLOYER_QUEUES)
        else:
            units = in_one(place) if is_root or not options["write"] else of_a_user(place)
        if options["write"]:
            self._write(units, place, is_root)
            return
        for name, text in units.items():
            self.stdout.write(f"# {name}\n{text}")

    def _write(self, units: dict[str, str], place: Place, is_root: bool) -> None:
        folder = Path("/etc/systemd/system") if is_root else Path.home() / ".config" / "systemd" / "user"
        try:
            if is_root:
                _prepare(place)
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in units.items():
                (folder / name).write_text(text)
                (folder / name).chmod(0o644)
                self.stdout.write(_("%s is written.") % (folder / name))
        except OSError as error:
            raise refused(
                _("%(path)s cannot be written: %(why)s. Run this as root.")
                % {"path": error.filename or folder, "why": error.strerror}
            ) from error
        self.stdout.write(_("Next:"))
        for step in next_steps(units, of_root=is_root):
            self.stdout.write(f"  {step}")


def _prepare(place: Place) -> None:
    """Make what units of the system need: the folder of their secrets, and a data folder of their user's."""
    try:
        account = pwd.getpwnam(place.user)
    except KeyError as error:
        raise refused(
            _("This machine has no user “%(user)s”. This makes one: %(command)s")
            % {"user": place.user, "command": f"useradd --system --home-dir {place.data} {place.user}"}
        ) from error
    CREDENTIALS.mkdir(mode=0o700, parents=True, exist_ok=True)
    hand_over(place.data, account)


def _is_bound_here() -> bool:
    """Whether this command's own environment says where to listen, and not the settings' file."""
    return "DEPLOYER_BIND" in os.environ and not is_in_file("DEPLOYER_BIND", settings.ENV_FILE)


def _program() -> Path:
    """The path of `deployer` as a unit starts it."""
    beside = Path(sys.executable).with_name("deployer")
    if settings.IS_CHECKOUT or not beside.exists():
        return Path(settings.BASE_DIR) / "bin" / "deployer"
    return beside
