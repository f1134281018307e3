"""Asking one server which releases of its projects are on its disk."""

from collections.abc import Sequence

from projects.commands.disk import Disk, question, read
from projects.models import Project
from servers.errors import ShellError, explained
from servers.models import Server
from servers.ssh.shell import connect


def releases_on(server: Server, projects: Sequence[Project]) -> dict[int, Disk]:
    """What is on the disk of ``server``, by the ids of ``projects``, asked in one command. Raises a `ShellError`.

    Those that have no deploy path are left out. Nothing is changed there.
    """
    asked = [project for project in projects if project.deploy_path]
    paths = [project.deploy_path.rstrip("/") for project in asked]
    try:
        with explained(server), connect(server) as link:
            found = read(link.capture(question(paths), timeout=30).stdout, len(paths))
    except ShellError as error:
        server.record_connection(str(error))
        raise
    return {project.pk: disk for project, disk in zip(asked, found, strict=True)}
