"""Containers of docker or podman, by their name or as services of a compose file."""

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from shlex import quote
from typing import Any

from django.utils.translation import gettext as _

from projects.commands.kept import NOT_FOUND, Kept
from projects.commands.processes import MOMENT, Survey
from projects.commands.service import in_shell
from projects.commands.services.kind import (
    DENIED,
    LINE,
    LINES,
    Does,
    Kind,
    Told,
    Where,
    acting,
    ask_keeper,
    first_words,
    refused,
    sudoers,
    words,
)

_PART = r"[a-zA-Z0-9][a-zA-Z0-9_.-]*"
_NAME = re.compile(rf"(?:({_PART})/)?({_PART})")
_FIELDS = (".State.Status", ".State.StartedAt", ".State.Pid", ".RestartCount", ".State.ExitCode")
#: podman knows `{{.Id}}` as it stands, and not within an expression.
_FORMAT = 'BOX ["{{.Id}}",' + ",".join(f"{{{{json {field}}}}}" for field in _FIELDS) + "]"
#: Where docker has no daemon, podman has the containers.
FIND = """\
docker=$(command -v docker)
[ -n "$DOCKER_HOST" ] || [ -S /var/run/docker.sock ] || [ -S "${XDG_RUNTIME_DIR:-/run/user/$(id -u)}/docker.sock" ] ||
docker=$(command -v podman || command -v docker || echo docker)
"""
#: The states of a container in which nothing of it runs; podman calls one of them otherwise.
_OFF = frozenset({"created", "configured", "initialized", "exited", "dead", "stopped"})
_COMPOSE_FILES = "compose.yaml compose.yml docker-compose.yml docker-compose.yaml"


class Docker(Kind):
    """A container, or all those of a service of a compose project (``project/service``).

    It is known by its id and its start, and by the process in it where that is seen.
    """

    acts = True

    def check(self, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise ValueError(_("Give the name of a container, like shop, or project/service of a compose file."))

    def ask(self, name: str, where: Where) -> str:
        show = f"$sudo $docker inspect --type container --format {quote(_FORMAT)} $ids"
        return acting(where, FIND + ask_keeper(f'ids={ids_of(name)}; [ -z "$ids" ] || {show}'))

    def read(self, name: str, lines: Sequence[str], survey: Survey) -> Kept:
        boxes = [box for line in lines[:LINES] if (box := _box(line)) is not None]
        if not boxes:
            said, who = first_words([line for line in lines if line.strip() != "[]"]), refused(lines)
            is_missing = not who and (not said or re.search(r"no such (container|object)", said, re.IGNORECASE))
            state = NOT_FOUND if is_missing else said
            return Kept(name, state, is_known=False, problem="" if is_missing else said, refused=who)
        down = [box for box in boxes if box.status != "running"]
        return Kept(
            name,
            down[0].state if down else "running",
            is_up=not down,
            is_off=all(box.status in _OFF for box in boxes),
            is_looping=any(box.status == "restarting" for box in boxes),
            restarts=sum(box.restarts for box in boxes),
            run=" ".join(box.run for box in boxes)[:1000],
            since=_moment(max(box.started for box in boxes)),
            main=tuple(box.pid for box in boxes if box.pid),
        )

    def evidence(self, name: str, where: Where) -> str:
        text = f"""{FIND}sudo=
! $docker ps >/dev/null 2>&1 && sudo -n $docker ps >/dev/null 2>&1 && sudo='sudo -n'
for id in {ids_of(name)}; do
echo "== container $id"
$sudo $docker inspect --type container --format '{{{{.State.Status}}}} {{{{.State.ExitCode}}}} {{{{.Image}}}}' $id 2>&1
$sudo $docker logs --tail 40 $id 2>&1
done
"""
        return acting(where, text)

    def missing(self, name: str) -> Told:
        return Told(
            _("There is no container %s on the server") % name,
            "",
            _("Correct its name (docker ps -a lists all), or start it once."),
        )

    def unasked(self, kept: Kept) -> Told:
        what = _("The container %s cannot be asked for") % kept.name
        if kept.refused:
            told = {"user": kept.refused, "line": sudoers(kept.refused, "/usr/bin/docker")}
            remedy = _("Add the user to the group (usermod -aG docker %(user)s), or allow it in sudoers: “%(line)s”")
            return Told(what, _("docker does not let %s ask") % kept.refused, remedy % told)
        return Told(what, kept.problem, _("Install and start docker or podman."))

    def act(self, name: str, where: Where, does: Does) -> str:
        project, service = _parts(name)
        begin = f"""{FIND}sudo=
case $(LC_ALL=C $docker ps 2>&1) in {DENIED}) sudo='sudo -n' ;; esac
"""
        if does in {Does.STOP, Does.START}:
            return f"{begin}{_has_some(name)}exec $sudo $docker {does} $ids\n"
        if does == Does.RELOAD:
            return f"{begin}exec $sudo $docker kill --signal HUP {ids_of(name)}\n"
        if not project:
            return f"{begin}exec $sudo $docker restart {quote(service)}\n"
        label = '{{index .Config.Labels "com.docker.compose.project.%s"}}'
        folder, files = quote(label % "working_dir"), quote(label % "config_files")
        here = f"{in_shell(where.folder)}/current" if where.folder else "."
        return f"""{begin}set -f
at=
cd -- {here} 2>/dev/null && for f in {_COMPOSE_FILES}; do [ ! -f $f ] || at=$PWD; done
if [ -n "$at" ]; then set --
else
set -- {ids_of(name)}
[ $# -gt 0 ] || {{ echo 'there is no compose file, and no container that names one' >&2; exit 1; }}
at=$($sudo $docker inspect --type container --format {folder} "$1")
files=$($sudo $docker inspect --type container --format {files} "$1")
cd -- "$at" || exit 1
set --
IFS=,
for f in $files; do set -- "$@" -f "$f"; done
unset IFS
fi
build=
[ "$DEPLOY_TYPE" != full ] || build=--build
exec $sudo $docker compose "$@" -p {quote(project)} up -d --no-deps --force-recreate $build {quote(service)}
"""

    def command(self, name: str, does: Does) -> str:
        project, service = _parts(name)
        if does in {Does.STOP, Does.START}:
            return f"docker compose -p {project} {does} {service}" if project else f"docker {does} {service}"
        if does == Does.RELOAD:
            return f"docker kill --signal HUP {name}"
        return (
            f"docker compose -p {project} up -d --force-recreate {service}" if project else f"docker restart {service}"
        )


def _parts(name: str) -> tuple[str, str]:
    match = _NAME.fullmatch(name)
    return (match[1] or "", match[2]) if match else ("", name)


def ids_of(name: str) -> str:
    """The containers that are meant, as words of a command."""
    project, service = _parts(name)
    if not project:
        return quote(service)
    label = "--filter label=com.docker.compose"
    return f"$($sudo $docker ps -aq {label}.project={quote(project)} {label}.service={quote(service)})"


def _has_some(name: str) -> str:
    """Set ``ids``, or end where there are none."""
    return f"""ids={ids_of(name)}
[ -n "$ids" ] || {{ echo 'there is no such container' >&2; exit 1; }}
"""


class _Box:
    """What is said of one container."""

    def __init__(self, row: list[Any]) -> None:
        box, status, started, pid, restarts, code = row
        self.status, self.started = words(str(status)), words(str(started))
        self.pid, self.restarts = (it if isinstance(it, int) and 0 <= it < 1 << 40 else 0 for it in (pid, restarts))
        self.run = f"{words(str(box))[:64]}@{self.started}"
        self.state = f"{self.status} ({code})" if self.status == "exited" and isinstance(code, int) else self.status


def _box(line: str) -> _Box | None:
    if not line.startswith("BOX "):
        return None
    try:
        row = json.loads(line[4:LINE])
    except (ValueError, RecursionError):
        return None
    return _Box(row) if isinstance(row, list) and len(row) == 1 + len(_FIELDS) else None


def _moment(text: str) -> str:
    """A start as docker prints it, as the others are written: UTC, in seconds; empty for anything else."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d{1,9})?(Z|[+-]\d\d:\d\d)", text, re.ASCII)
    try:
        return datetime.fromisoformat("".join(match.groups())).astimezone(UTC).strftime(MOMENT) if match else ""
    except (ValueError, OverflowError):
        return ""
