"""Is what a stop would do there already: live on all of its servers and proved, as it would be left?"""

from collections.abc import Iterable
from dataclasses import replace

from deployer.gates.digest import Content
from deployer.gates.pinning import is_contained
from deployer.gates.proof import is_proved
from deployer.models import Release, Standing, TrainStop
from deployer.releases.versions import running_in
from projects.models import Project
from servers.errors import ShellError
from servers.fields import DecryptionError
from servers.models import Server


def is_live(project: Project, servers: Iterable[Server], content: Content) -> bool:
    """Whether each of ``servers`` runs the code of ``content``, proved by the last deployment there, undisturbed since,
    and with the same steps, files and values.
    """
    wanted = {server.pk for server in servers}
    rows = Standing.objects.filter(project=project, server__in=wanted)
    standings = list(rows.select_related("sighting", "last__deployment__release", "proved"))
    running = running_in([project]).get(project.pk, {})
    if {standing.server_id for standing in standings} != wanted or not content.code:
        return False
    return all(
        standing.release == running.get(standing.server_id)
        and is_proved(standing.last, standing.proved)
        and not standing.drift
        and _is_same(standing, project, content)
        for standing in standings
    )


def _is_same(standing: Standing, project: Project, content: Content) -> bool:
    """Whether the release there is of this code, and was left with the same configuration."""
    release = Release.objects.known_to(project, standing.release)
    if release is None or standing.last is None or content.code not in {release.commit_hash, release.sha256}:
        return False
    try:
        left = Content.of(standing.last.deployment)
    except DecryptionError:
        return False
    same = replace(left, code=content.code, deployment_type=content.deployment_type)
    return same.digest(content.servers) == content.digest()


def news_on(stop: TrainStop, project: Project) -> dict[int, str]:
    """The servers of a stop that were given another release since its train was launched, by no stop of the train."""
    running = running_in([project]).get(project.pk, {})
    own = {*Release.objects.filter(deployments__train_stop__run=stop.run_id).values_list("version", flat=True)}
    return {
        int(server): running[int(server)]
        for server, version in stop.live.items()
        if running.get(int(server), "") not in {"", version, *own}
    }


def overtaken(stop: TrainStop, project: Project, versions: Iterable[str]) -> str:
    """The one of ``versions`` that has the commit of the stop in it, and more; empty where none has."""
    for version in versions:
        live = Release.objects.commit_of(project, version)
        try:
            if live and stop.commit and live != stop.commit and is_contained(project, stop.commit, live):
                return version
        except ShellError:
            continue  # it is not known here: then it is not outdated
    return ""
