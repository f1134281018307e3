"""The playground: the demo's three SSH servers and their shop, beside the real ones, under a running `manage.py up`.

The file ``wanted`` in its folder is how the site tells the supervisor to keep the servers running. Keys and ports are
kept for the next time, so that neither deployer nor git meets another machine where it has pinned one.
"""

import fcntl
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.db import models, transaction
from django.db.models import ProtectedError, Q
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from deployer.declaring.reading import DeclarationError, Source, apply
from deployer.host.supervisor import SUPERVISED, Program
from deployer.models import Deployment
from deployer.playground import scene
from deployer.releases.archives import StoreError, explained
from deployer.repositories.mirror import mirror_path
from projects.models import Project
from servers.models import Credential, Server, ServerGroup

FOLDER = Path(settings.DATA_DIR) / "playground"
KEY, GROUP, PROJECT = "playground-key", "playground", "playground-shop"
SERVERS = tuple(f"playground-{name}" for name in scene.SERVERS)
#: Seconds that somebody waits for the servers to come up, or to go.
LIMIT = 30


class PlaygroundError(Exception):
    """It cannot be made or removed now. The message is a sentence that says why, and what to do."""


def program() -> Program:
    """The servers as a program of the supervisor, kept while they are wanted."""
    command = [sys.executable, str(scene.SOURCE / "servers.py"), str(FOLDER)]
    return Program("playground", command, wanted=is_wanted)


def is_wanted() -> bool:
    """Whether the servers are to run."""
    return (FOLDER / "wanted").exists()


def shops() -> list[str]:
    """The address of each server's shop, for a browser of this machine."""
    return [f"http://127.0.0.1:{shop_port}/" for _ssh_port, shop_port in _ports()]


def can_be_made() -> bool:
    """Whether a supervisor runs that would keep the servers: this is one of its programs."""
    return SUPERVISED in os.environ


def make() -> Project:
    """Have the servers started and declare them, their group and the shop; gives the project to launch.

    Where it is there already, what is missing is put right. Raises `PlaygroundError`.
    """
    if not can_be_made():
        raise PlaygroundError(_("deployer was not started by “manage.py up”: nothing would keep the servers running."))
    with _one_at_a_time():
        _refuse_names_of_others()
        if not is_wanted():
            _choose_ports()
            (FOLDER / "ready").unlink(missing_ok=True)
        ports = _ports()
        if not (FOLDER / "repository" / ".git").is_dir():
            shutil.rmtree(FOLDER / "repository", ignore_errors=True)
            scene.make_repository(FOLDER / "repository", scene.new_version())
        (FOLDER / "wanted").touch()
        # Somebody else may have taken a port since it was chosen: that one answers is not enough.
        if not _wait(lambda: (FOLDER / "ready").exists() and all(_answers(port) for port, _shop_port in ports)):
            (FOLDER / "wanted").unlink(missing_ok=True)  # the next time chooses ports anew
            why = _("The servers did not come up within %d seconds: see “playground” in the output of “manage.py up”.")
            raise PlaygroundError(why % LIMIT)
        try:
            apply([Source(PROJECT, scene.declaration(_values(ports)).encode(), FOLDER)])
        except DeclarationError as error:
            raise PlaygroundError(" ".join(error.mistakes)) from error
        (FOLDER / "declared").touch()
    return Project.objects.get(name=PROJECT)


def remove() -> list[str]:
    """Stop the servers and delete what was declared, with its deployments; gives sentences that say what became of it.

    Refused, with a `PlaygroundError`, while something is being deployed there.
    """
    with _one_at_a_time():
        there = Q(targets__server__name__in=SERVERS) | Q(project__name=PROJECT)
        busy = Deployment.objects.active().filter(there).first()
        if busy is not None:
            raise PlaygroundError(_("Deployment #%d goes to its servers just now: wait for it or cancel it.") % busy.pk)
        (FOLDER / "wanted").unlink(missing_ok=True)
        ports = _ports()
        if can_be_made() and not _wait(lambda: not any(_answers(port) for pair in ports for port in pair)):
            raise PlaygroundError(_("The servers did not stop within %d seconds: try again.") % LIMIT)
        told = [_("The three servers and the shops on them are stopped."), *_delete_rows()]
        for name in ("servers", "repository"):
            shutil.rmtree(FOLDER / name, ignore_errors=True)
        (FOLDER / "declared").unlink(missing_ok=True)
    return told


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PlaygroundError(_("Somebody is making or removing it just now: wait a moment.")) from error
        yield


def _refuse_names_of_others() -> None:
    """What has a name of the playground and is not of it is not taken over."""
    if (FOLDER / "declared").exists():
        return
    known: list[tuple[type[models.Model], tuple[str, ...]]] = [
        (Project, (PROJECT,)),
        (ServerGroup, (GROUP,)),
        (Server, SERVERS),
        (Credential, (KEY,)),
    ]
    for model, names in known:
        if (taken := model._default_manager.filter(name__in=names).first()) is not None:
            raise PlaygroundError(
                _("The %(kind)s “%(name)s” is not the playground's: give it another name first.")
                % {"kind": model._meta.verbose_name, "name": taken}
            )


def _choose_ports() -> None:
    """Those of the last time, or the next free one where somebody else listens by now."""
    wanted = _ports() or [(scene.SSH_PORT + index, scene.SHOP_PORT + index) for index in range(len(SERVERS))]
    taken: set[int] = set()
    machines = [
        f"{name}:{scene.free_port(ssh_port, taken)}:{scene.free_port(shop_port, taken)}\n"
        for name, (ssh_port, shop_port) in zip(scene.SERVERS, wanted, strict=True)
    ]
    (FOLDER / "machines").write_text("".join(machines))


def _ports() -> list[tuple[int, int]]:
    """The SSH port of each server and the port of its shop; empty where there was no playground yet."""
    try:
        rows = [line.split(":") for line in (FOLDER / "machines").read_text().split()]
    except FileNotFoundError:
        return []
    return [(int(ssh_port), int(shop_port)) for _name, ssh_port, shop_port in rows]


def _values(ports: list[tuple[int, int]]) -> dict[str, Any]:
    """The words of the declaration. git reads the repository over SSH from the first server, as from a git server."""
    from deployer.playground.servers import username  # it loads an SSH library that nothing else here needs

    values: dict[str, Any] = {
        "key": KEY,
        "username": username(),
        "group": GROUP,
        "environment": "development",
        "project": PROJECT,
        "repository": f"ssh://{username()}@127.0.0.1:{ports[0][0]}{quote(str(FOLDER / 'repository'))}",
        "git_credential": KEY,
    }
    for number, (name, (ssh_port, _shop_port)) in enumerate(zip(SERVERS, ports, strict=True), start=1):
        values |= {f"server_{number}": name, f"ssh_port_{number}": ssh_port}
    return values


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _wait(true: Callable[[], bool]) -> bool:
    """Whether ``true()`` has come to be in time."""
    until = time.monotonic() + LIMIT
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def _delete_rows() -> list[str]:
    """Delete what was declared, and leave what others hold on to; a sentence for each."""
    project = Project.objects.filter(name=PROJECT).first()
    told = [] if project is None else [_delete_project(project)]
    ServerGroup.objects.filter(name=GROUP).delete()
    rows: list[models.Model] = [*Server.objects.filter(name__in=SERVERS), *Credential.objects.filter(name=KEY)]
    held = [row for row in rows if not _deleted(row)]
    if not held:
        return [*told, _("Its group, its servers and its credential are deleted.")]
    Server.objects.filter(pk__in=[row.pk for row in held if isinstance(row, Server)]).update(is_active=False)
    why = _("Its group is deleted. Something else still uses %s: they stay, and servers among them are inactive now.")
    return [*told, why % ", ".join(str(row) for row in held)]


def _deleted(row: models.Model) -> bool:
    try:
        row.delete()
    except ProtectedError:
        return False
    return True


def _delete_project(project: Project) -> str:
    """Delete the shop with its deployments, its stored releases and its mirror."""
    releases = list(project.releases.stored())
    try:
        with transaction.atomic():
            count = project.deployments.count()
            project.deployments.ended().delete()
            project.delete()
    except ProtectedError as error:
        raise PlaygroundError(
            _("“%s” was launched meanwhile, and its servers are stopped: cancel that, then remove it again.") % project
        ) from error
    shutil.rmtree(mirror_path(project.git_url), ignore_errors=True)
    try:
        with explained():
            for release in releases:
                for file in (release.archive, release.manifest):
                    if file:
                        file.storage.delete(str(file.name))
    except StoreError as error:
        return _("The project “%(project)s” is deleted, but its releases are still stored: %(why)s") % {
            "project": project,
            "why": error,
        }
    told = ngettext(
        "The project “%(project)s” is deleted, with its releases and %(count)d deployment.",
        "The project “%(project)s” is deleted, with its releases and %(count)d deployments.",
        count,
    )
    return told % {"project": project, "count": count}
