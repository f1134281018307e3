"""Asking one server which services it has, so that somebody can pick those of a project."""

from projects.commands.services.inventory import Inventory, question, read
from servers.errors import ShellError, explained
from servers.models import Server
from servers.ssh.shell import connect


def find_out(server: Server, run_as: str = "") -> Inventory:
    """The services of ``server`` as its login sees them, or the user ``run_as``; nothing is changed there.

    Raises a `ShellError`.
    """
    try:
        with explained(server), connect(server) as link:
            answer = link.capture(question(run_as), timeout=30).stdout
    except ShellError as error:
        server.record_connection(str(error))
        raise
    server.record_connection()
    return read(answer)
