"""Removing old releases from a server."""

import secrets

from django.utils.translation import gettext as _

from deployer.database import insist
from deployer.engine.server_run import ServerRun
from deployer.models import ConfigState, Release
from deployer.releases.versions import Recorded, recorded
from projects.commands import release as release_commands
from servers.errors import ShellError, explained


def tidy(server: ServerRun) -> None:
    """Remove releases beyond the ones to keep; never the live one, the previous one or one in use.

    Those that went well here are kept before those that did not. Done also where this one did not, so that
    failures in a row fill no disk; but only where the script has ended, and the server has not gone away.
    """
    if not server.switched or server.target.exit_code is None or server.target.server_id is None:
        return
    try:
        with explained(server):
            server.reach()
            _remove_old(server, server.target.server_id)
    except ShellError as error:
        server.voice.warn(str(error))


def _remove_old(server: ServerRun, server_id: int) -> None:
    commands, plan, project = server.commands, server.plan, server.work.deployment.project
    listing = commands.capture(
        release_commands.inventory(commands.deploy_path, plan.run_as), _("The releases could not be listed")
    )
    seen = insist(lambda: recorded(project, server_id)).get(server_id, Recorded(""))
    kept = seen.needed | {server.target.release_before, server.work.release.version}
    marked = Release.objects.filter(project=project, state=Release.State.BAD)
    bad = insist(lambda: [*marked.values_list("version", flat=True)])
    old = release_commands.superfluous(listing, plan.keep_releases, kept, seen.failed.union(bad))
    if not old and not release_commands.leftovers(listing):
        return
    nonce = secrets.token_hex(4)
    text = release_commands.remove(commands.deploy_path, old, nonce, plan.run_as)
    kept_back = release_commands.kept_back(commands.capture(text, _("Old releases could not be removed")))
    if old:
        if plan.config_files:
            insist(lambda: ConfigState.forget_releases(project.pk, server_id, old))
        server.voice.say(_("Removed old releases: %s") % ", ".join(old))
    for version in kept_back:  # only now: what is left of earlier ones was told then
        place = f"{commands.deploy_path}/releases/.deleted.{version}.{nonce}"
        server.voice.warn(
            _("Release %(version)s could not be deleted whole: %(place)s holds files that this login may not delete")
            % {"version": version, "place": place}
        )
