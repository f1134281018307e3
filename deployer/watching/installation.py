"""What `deployer doctor` looks at besides: the machine, the programs and the settings of this installation."""

import os
import re
import resource
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings
from django.core.checks import Tags, run_checks
from django.db import DatabaseError, connection
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from redis.exceptions import RedisError

from deployer.queue.sending import asked_once
from deployer.releases.isolation import isolation
from deployer.watching.finding import Finding, error, warning
from servers.processes import most_threads

#: Programs without which something of a deployment cannot be done, what that is, and the Debian package of each.
_PROGRAMS = {
    "git": (gettext_lazy("repositories cannot be fetched"), "git"),
    "ssh": (gettext_lazy("repositories cannot be fetched over SSH"), "openssh-client"),
}
#: The oldest git that knows what deployer asks of it.
OLDEST_GIT = (2, 30)
#: Open files, and threads, of a process, below which fewer servers are worked on at a time.
FEW_FILES = 4096
FEW_THREADS = 1024
#: Seconds by which the clocks of two machines may differ.
CLOCKS_DIFFER = 5.0


def look_at_installation() -> list[Finding]:
    """What is not as it should be about this machine and its settings, as the user that asks sees it."""
    return [*_folder(), *_programs(), *_builds(), *_limits(), *_clocks(), *_settings()]


def _folder() -> Iterator[Finding]:
    folder = Path(settings.DATA_DIR)
    here = [folder, *(path for path in (folder / "db.sqlite3", folder / "queue", folder / "storage") if path.exists())]
    if closed := [str(path) for path in here if not os.access(path, os.R_OK | os.W_OK)]:
        yield error(
            "folder",
            _("The data folder cannot be written."),
            _("This user may not read and write %s.") % ", ".join(closed),
            _("Run this as the user that deployer runs as; what the folder holds must belong to that user."),
        )
    key = Path(settings.DEPLOYER_ENCRYPTION_KEY_FILE)
    if key.exists() and key.stat().st_mode & 0o077:
        yield error(
            "folder",
            _("The encryption key can be read by others."),
            str(key),
            _("Take that from them: chmod 600. Then rotate the keys."),
        )


def _programs() -> Iterator[Finding]:
    for name, (without, package) in _PROGRAMS.items():
        if shutil.which(name) is None:
            yield error(
                "programs",
                _("%(program)s is not installed: %(without)s.") % {"program": name, "without": without},
                "",
                _("Install it: apt-get install %s.") % package,
            )
    if shutil.which("git") is not None and (version := _git_version()) and version < OLDEST_GIT:
        words = {"is": ".".join(map(str, version)), "least": ".".join(map(str, OLDEST_GIT))}
        yield error(
            "programs",
            _("git is too old."),
            _("It is %(is)s, and deployer needs %(least)s.") % words,
            _("Install a newer one."),
        )


def _git_version() -> tuple[int, ...]:
    done = subprocess.run(["git", "--version"], capture_output=True, text=True, timeout=20, check=False)
    found = re.search(r"(\d{1,9})\.(\d{1,9})", done.stdout)
    return (int(found[1]), int(found[2])) if found else ()


def _builds() -> Iterator[Finding]:
    here = isolation()
    if here.is_refused:
        yield error("builds", _("Builds are refused: they cannot be isolated here."), here.reason(), here.remedy())
    elif here.falls_short:
        yield warning("builds", here.told() + ".", here.reason(), here.remedy())


def _limits() -> Iterator[Finding]:
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < FEW_FILES:
        yield warning(
            "limits",
            _("A process may open few files: fewer servers are worked on at a time."),
            _("At most %d.") % hard,
            _("Raise it: LimitNOFILE= in the unit, or /etc/security/limits.conf."),
        )
    if (threads := most_threads()) is not None and threads < FEW_THREADS:
        yield warning(
            "limits",
            _("There may be few processes and threads here: fewer servers are worked on at a time."),
            _("At most %d.") % threads,
            _("Raise it: TasksMax= in the unit, or the limit of the container."),
        )


def _clocks() -> Iterator[Finding]:
    """This machine's clock beside those of the database and the queue, where they are on others."""
    for name, moment in (("DATABASE_URL", _clock_of_database()), ("REDIS_URL", _clock_of_queue())):
        if moment is not None and abs(difference := (timezone.now() - moment).total_seconds()) > CLOCKS_DIFFER:
            yield error(
                "clock",
                _("The clocks of two machines differ: living workers can be taken for lost."),
                _("This machine is %(seconds)d s from the server of %(server)s.")
                % {"seconds": difference, "server": name},
                _("Keep both right by NTP (systemd-timesyncd, chrony)."),
            )


def _clock_of_database() -> datetime | None:
    if connection.vendor != "postgresql":
        return None
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT clock_timestamp()")
            moment: datetime = cursor.fetchone()[0]
            return moment
    except DatabaseError:
        return None  # that is a finding of its own


def _clock_of_queue() -> datetime | None:
    if settings.QUEUE_IS_EMBEDDED:
        return None
    try:
        with asked_once() as queue:
            seconds, micro = queue.time()
            return datetime.fromtimestamp(seconds + micro / 1e6, UTC)
    except (RedisError, OSError):
        return None


def _settings() -> Iterator[Finding]:
    """What `deployer check --deploy` says of deployer's own settings."""
    for message in run_checks(tags=[Tags.security], include_deployment_checks=True):
        if str(message.id).startswith("deployer."):
            yield warning("settings", _("A setting is weak."), str(message.msg), str(message.hint or ""))
