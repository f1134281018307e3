"""Which servers do not have the config files of a project as they are to be: known without asking them."""

from dataclasses import dataclass

from django.db.models.functions import Lower

from deployer.models import ConfigState, Standing
from deployer.plan import Plan
from deployer.probing.config_files import Of, wanted_files
from projects.models import Project
from servers.models import Server


@dataclass(frozen=True)
class Outdated:
    """A server on which the next restart would write the files with these ``paths``."""

    server: Server
    paths: tuple[str, ...]


def outdated_servers(project: Project) -> list[Outdated]:
    """The active servers that the project was deployed to and whose files were made of something else, by name.

    What somebody has changed by hand is not known here: the board tells it. Raises `DecryptionError`, and
    `NotReadyError` where a file cannot be filled in.
    """
    plan = Plan.of(project, [])
    if not plan.config_files:
        return []
    rows = ConfigState.objects.filter(project=project)
    known = {(row.server_id, row.release, row.path): row for row in rows}
    found = []
    standings = Standing.objects.filter(project=project, server__is_active=True).select_related("server")
    for standing in standings.order_by(Lower("server__name")):
        server = standing.server
        paths = []
        for wanted in wanted_files(plan, Of(server.pk, server.name, server.host)):
            release = standing.release if wanted.planned.is_in_release else ""
            row = known.get((server.pk, release, wanted.path))
            if row is None or not row.is_made_of(wanted.made_of):
                paths.append(wanted.path)
        if paths:
            found.append(Outdated(server, tuple(paths)))
    return found
