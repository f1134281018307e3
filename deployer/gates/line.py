"""The line before the one active place of a project: who has a turn, and whom time or another one has overtaken."""

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from django.utils import timezone
from django.utils.translation import gettext as _

from deployer.gates.asking import Answer, Before, Case, ask
from deployer.gates.belonging import elsewhere, refusal_elsewhere
from deployer.gates.deciding import make_void
from deployer.gates.pinning import is_contained
from deployer.models import Deployment, Release, Standing, Target, stop_behind
from deployer.releases.versions import running_in
from people.rights import may
from people.roles import Action
from servers.errors import ShellError
from servers.fields import DecryptionError
from servers.sentences import as_stored

logger = logging.getLogger(__name__)

#: For how long somebody is waited for.
PATIENCE = timedelta(hours=24)


def take_turns(project: int | None = None, now: datetime | None = None) -> list[int]:
    """Give those in line whose turn it is the place of the active one, in all projects or one.

    Returns their numbers: they are to be put on the queue. Texts are written in the language of what is stored.
    """
    moment = now or timezone.now()
    rows = Deployment.objects.in_line().select_related("project", "created_by", "release", "retry_of")
    if project is not None:
        rows = rows.filter(project=project)
    with as_stored():
        line = sorted(rows, key=_rank)
        for it in _replaced(line):
            line.remove(it)
        return [it.pk for it in line if _has_turn(it, moment)]


def refusal_at_turn(it: Deployment) -> str:
    """Why one that has the place, and that no worker has taken yet, is not begun; empty if it may be.

    One that may wait goes back into the line; one that lacks an approval by now does so in any case.
    """
    with as_stored():
        if why := _right_lost(it) or it.project.archived_sentence or _marked_bad(it):
            return why
        answer = ask(Case.of(it))
        if not answer.shut and (why := _out_of_place(it)):
            return why
        if answer.first is None or answer.first.before == Before.PLACE:
            return ""
        if it.may_queue or not answer.shut:
            _wait(it, answer)
    return answer.note


def _rank(it: Deployment) -> tuple[int, int]:
    """A rollback comes first, then a retry, then what people have launched, then what launches itself."""
    if it.rollback_from_id is not None:
        return 0, it.pk
    if it.retry_of_id is not None:
        return 1, it.pk
    return (3 if it.is_automatic else 2), it.pk


def count_ahead(rows: Sequence[Deployment]) -> None:
    """Write on each of ``rows`` as ``ahead`` how many of its project have their turn before it, the active one too.

    Two statements, however many rows there are.
    """
    projects = {it.project_id for it in rows if it.is_in_line}
    line: dict[tuple[int, str], list[tuple[int, int]]] = {}
    columns = ("pk", "project_id", "environment", "trigger", "rollback_from_id", "retry_of_id")
    for it in Deployment.objects.in_line().filter(project__in=projects, status=Deployment.Status.QUEUED).only(*columns):
        line.setdefault((it.project_id, it.environment), []).append(_rank(it))
    active = Deployment.objects.at_work().filter(project__in=projects).values_list("project", "environment")
    taken = {*active} if projects else set()
    for it in rows:
        place = (it.project_id, it.environment)
        before = sum(rank < _rank(it) for rank in line.get(place, ()))
        it.__dict__["ahead"] = before + (place in taken) if it.is_in_line else 0


def _replaced(line: Iterable[Deployment]) -> list[Deployment]:
    """End those for which the same trigger has launched a newer one; never what a person queued or has approved."""
    newest: dict[tuple[object, ...], Deployment] = {}
    ended = []
    for it in sorted(line, key=lambda it: -it.pk):
        is_again = it.retry_of_id is not None or it.rollback_from_id is not None
        if not it.is_automatic or is_again or it.stays_in_line or it.approvals.filter(void_at=None).exists():
            continue
        source = it.webhook_id or it.schedule_id or it.launched_for
        newer = newest.setdefault((it.project_id, it.environment, it.trigger, source), it)
        if newer is not it:
            it.end_in_line(Deployment.Status.CANCELLED, _("Replaced by #%d.") % newer.pk)
            ended.append(it)
    return ended


def _has_turn(it: Deployment, now: datetime) -> bool:
    """Ask every gate for one in line; give it the place, or write down why it waits or has ended."""
    if why := _right_lost(it) or it.project.archived_sentence or _marked_bad(it) or _without_servers(it):
        it.end_in_line(Deployment.Status.CANCELLED, why)
        return False
    if it.status == Deployment.Status.WAITING and it.waits_since is not None and it.waits_since < now - PATIENCE:
        why = _("Nobody approved it for 24 hours.") if it.asks_approval else it.note
        it.end_in_line(Deployment.Status.EXPIRED, why)
        return False
    try:
        answer = ask(Case.of(it), now)
        if not answer.shut and (why := _out_of_place(it)):
            it.end_in_line(Deployment.Status.CANCELLED, why)
            return False
        if not answer.shut and (overtaken := _overtaken(it)) is not None:
            if overtaken:
                it.end_in_line(Deployment.Status.CANCELLED, overtaken)
                return False
            answer = ask(Case.of(it), now)
    except DecryptionError as error:
        it.end_in_line(Deployment.Status.CANCELLED, str(error))
        return False
    first = answer.first
    if first is None:
        return it.take_turn(answer.note)
    if answer.shut and not answer.lacks and not it.may_queue:
        it.end_in_line(Deployment.Status.CANCELLED, answer.note)
        return False
    _wait(it, answer)
    return False


def _wait(it: Deployment, answer: Answer) -> None:
    it.stand_in_line(answer.status, answer.note, asks_approval=answer.asks_approval)
    if answer.asks_approval:
        it.asked_teams.set(answer.required.teams)


def _right_lost(it: Deployment) -> str:
    """Why whoever launched it may not any more, as a sentence; empty if they may."""
    if it.trigger == Deployment.Trigger.CLI and it.created_by is None:
        return ""  # on this machine, by whoever has the data folder
    if (stop := stop_behind(it)) is not None and it.created_by is None and stop.run.is_by_machine:
        return ""
    things = (it, *it.project.reached_by_launch(it.server_groups.all()))
    if all(may(it.created_by, Action.OPERATE, thing) for thing in things):
        return ""
    if it.created_by is None:
        return _("Whoever launched it is no longer a user: launch it again.")
    return _("%s no longer has the right to launch this: somebody who has it can launch it again.") % it.created_by


def _marked_bad(it: Deployment) -> str:
    """Why its release is not deployed any more, as a sentence: somebody has marked it as bad meanwhile."""
    release = it.release
    if release is None or it.keeps_release or not release.is_marked_bad:
        return ""
    words = {"release": release, "who": release.bad_by or _("an admin"), "reason": release.bad_reason}
    return _("Release %(release)s was marked as bad by %(who)s: %(reason)s") % words


def _without_servers(it: Deployment) -> str:
    """Leave out the servers that are not active any more. Why there is none to work on then, as a sentence."""
    waiting = it.targets.filter(status=Target.Status.PENDING)
    waiting.filter(server__is_active=False).update(
        status=Target.Status.SKIPPED, error=str(_("The server is not active."))
    )
    return "" if waiting.exists() else _("None of its servers is active any more: launch it again.")


def _out_of_place(it: Deployment) -> str:
    """Why its project does not go there any more, as a sentence: its groups have changed meanwhile. Empty if it does.

    Whoever launched it elsewhere has meant it.
    """
    groups = list(it.server_groups.all())
    if not elsewhere(it.project, groups):
        return ""
    servers = [target.server_id for target in _reached(it) if target.server_id]
    is_again = it.retry_of_id is not None or it.rollback_from_id is not None
    return refusal_elsewhere(it.project, groups, servers, is_meant=True, is_again=is_again)


def _reached(it: Deployment) -> list[Target]:
    """The servers that it works on."""
    return [target for target in it.targets.exclude(server=None) if not target.was_left_out]


def _overtaken(it: Deployment) -> str | None:
    """Why it is outdated, where its servers have been given something newer meanwhile; empty where that was anything
    else, and what was approved is void now; nothing where they are as they were.
    """
    targets = _reached(it)
    running = running_in([it.project]).get(it.project_id, {})
    changed = {
        target.server_id: running[target.server_id]
        for target in targets
        if target.server_id and running.get(target.server_id, "") not in {"", target.release_at_launch}
    }
    if not changed:
        return None
    if not it.keeps_release and it.rollback_from_id is None and it.commit_hash:
        for server, version in changed.items():
            live = Release.objects.commit_of(it.project, version)
            if live and _is_contained(it, live):
                last = Standing.objects.filter(project=it.project, server=server).values_list("last__deployment")
                number = last[0][0] if last else None
                return _("Outdated by #%d.") % number if number else _("Outdated by release %s.") % version
    make_void(it)
    for server, version in changed.items():
        Target.objects.filter(deployment=it, server=server).update(release_at_launch=version)
    return ""


def _is_contained(it: Deployment, live: str) -> bool:
    try:
        return is_contained(it.project, it.commit_hash, live)
    except ShellError as error:
        logger.warning("deployment %s: whether it is outdated is not known: %s", it.pk, error)
        return False
