"""A worker's part of a delivery: what becomes of it, by the repository and the servers, and its launch.

In this order: paused or archived, the owner's right, event, deletion, ref, changed files, a launch of the same commit
within ten minutes, what is live already; the launch then asks all that every launch asks, the gates among it.
"""

import logging
import threading
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

from django.db import Error as DatabaseError
from django.db import connections, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from deployer.gates.pinning import is_contained
from deployer.launching.asked import LaunchRequest
from deployer.launching.gated import foreseen
from deployer.launching.launch import launch
from deployer.launching.rules import LaunchRefusedError, check_before_gates, check_launch
from deployer.models import Delivery, Deployment, Release, Standing, Webhook
from deployer.releases.versions import running_in
from deployer.repositories.mirror import Mirror, fetch, mirror_of
from deployer.triggers.intake import first_look, refusal_of
from deployer.triggers.patterns import any_fits
from people.acting import Actor, of_process
from people.entries import Origin
from people.models import User
from people.rights import NotAllowedError, may
from people.roles import Action
from projects.commands import git
from projects.models import Project
from servers.errors import NotReadyError, ShellError
from servers.fields import DecryptionError
from servers.models import ServerGroup
from servers.sentences import as_stored, sentences

logger = logging.getLogger(__name__)

#: Deliveries of one commit of one branch join its launch for so long.
JOINS_FOR = timedelta(minutes=10)
#: Seconds between two signs of life.
BEAT_EVERY = 3.0

Outcome, _Ended = Delivery.Outcome, Deployment.Status
_ENDED_BADLY = (_Ended.FAILED, _Ended.CANCELLED, _Ended.INTERRUPTED, _Ended.EXPIRED)


@dataclass(frozen=True)
class Verdict:
    """What becomes of a delivery that launches nothing new, and why."""

    outcome: Delivery.Outcome
    reason: str
    deployment: Deployment | None = None


@dataclass(frozen=True)
class Code:
    """A commit of the repository that a delivery is about; empty where it deploys none."""

    commit: str = ""
    subject: str = ""


class _LostError(Exception):
    """Another worker has it by now."""


class Pulse:
    """The signs of life of a delivery while it is judged; a context manager."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery, self._done = delivery, threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"pulse of delivery {delivery.pk}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _beat(self) -> None:
        try:
            while not self._done.wait(BEAT_EVERY):
                try:
                    if not self._delivery.beat():
                        return
                except DatabaseError as error:
                    logger.warning("delivery %s: no sign of life could be written: %s", self._delivery.pk, error)
        finally:
            connections.close_all()


def judge_deliveries(claim: str) -> int:
    """Judge all that was received, one after the other. Gives how many those were."""
    count = 0
    while (delivery := Delivery.take(claim)) is not None:
        with Pulse(delivery):
            handle(delivery)
        count += 1
    return count


def handle(delivery: Delivery, now: datetime | None = None) -> None:
    """Find out what becomes of a delivery that this worker has taken, and write it; with its launch, if it has one."""
    webhook, moment = delivery.webhook, now or timezone.now()
    who = replace(Actor.of_job(webhook.launched_for, webhook.owner), origin=Origin.WEBHOOK)
    with as_stored(), of_process(who):
        try:
            found = _judged(delivery, webhook, moment)
        except NotAllowedError as error:
            found = _paused(webhook, error.sentence)
        except LaunchRefusedError as error:
            found = Verdict(Outcome.REFUSED, error.message)
        except (ShellError, DecryptionError) as error:
            found = Verdict(Outcome.FAILED, str(error))
        except _LostError:
            logger.warning("delivery %s was taken by another worker", delivery.pk)
            return
        if found is not None:
            delivery.finish(found.outcome, found.reason, found.deployment)


def _judged(delivery: Delivery, webhook: Webhook, now: datetime) -> Verdict | None:
    """What becomes of it; nothing where it has launched, which is written already."""
    if why := refusal_of(webhook):
        return Verdict(Outcome.REFUSED, why)
    groups = webhook.groups()
    owner = webhook.owner
    if owner is None or (why := _right_lost(owner, webhook, groups)):
        return _paused(webhook, why if owner else _("It has no owner: somebody takes it over on its page."))
    if why := first_look(webhook, delivery):
        return Verdict(Outcome.IGNORED, why)
    code = Code()
    if not webhook.is_restart_only or webhook.paths:
        code = _code(delivery, webhook)
        if delivery.kind != Delivery.Kind.TAG and not code.commit:
            ref = _ref(delivery, webhook)
            told = _("%(ref)s does not contain commit %(commit)s (any more).")
            return Verdict(Outcome.OUTDATED, told % {"ref": ref, "commit": delivery.after[:12]})
        if why := _untouched(delivery, webhook, groups, code):
            return Verdict(Outcome.IGNORED, why)
    request = _request(delivery, webhook, groups, code)
    if delivery.is_test:
        return _tested(request)
    if (same := _same(delivery, request, code, now)) is not None:
        return Verdict(Outcome.JOINED, _("Deployment #%d is of the same commit.") % same.pk, same)
    if not webhook.is_restart_only and (why := _outdated(request, code)):
        return Verdict(Outcome.OUTDATED, why)
    with transaction.atomic():
        deployment = launch(request)
        if not delivery.finish(Outcome.LAUNCHED, deployment.note, deployment):
            raise _LostError
    return None


def _right_lost(owner: User, webhook: Webhook, groups: list[ServerGroup]) -> str:
    """Why its owner may not launch by it any more, as a sentence; empty if they may."""
    if not owner.is_active:
        return _("%s, whose rights it has, is deactivated.") % owner
    things = (webhook.project, *webhook.project.reached_by_launch(groups))
    if all(may(owner, Action.OPERATE, thing) for thing in things):
        return ""
    return _("%s, whose rights it has, may not launch this any more.") % owner


def _paused(webhook: Webhook, why: str) -> Verdict:
    """It launches nothing until somebody who may has taken it over."""
    if webhook.pause(why):
        logger.warning("webhook %s of project %s is paused: %s", webhook.pk, webhook.project_id, why)
    return Verdict(Outcome.REFUSED, _("The webhook is paused: %s") % why)


# --- the repository ------------------------------------------------------------------------------------


def _ref(delivery: Delivery, webhook: Webhook) -> str:
    return delivery.ref or webhook.project.default_branch


def _code(delivery: Delivery, webhook: Webhook) -> Code:
    """The commit that it is about, as the repository has it; none where its branch does not have it any more.

    A sender that names none means the newest. What is there already is not fetched once more. Raises `ShellError`.
    """
    project, ref = webhook.project, _ref(delivery, webhook)
    with mirror_of(project) as mirror:
        if delivery.after and mirror.fetched_at is not None and (code := _found(mirror, delivery, ref)).commit:
            return code
    fetch(project)
    with mirror_of(project) as mirror:
        code = _found(mirror, delivery, ref)
        if not code.commit and not (delivery.after and mirror.resolve(delivery.after)):
            missing = _("%(ref)s at commit %(commit)s is not in the repository of the project")
            told = missing % {"ref": ref, "commit": delivery.after[:12] or "–"}
            raise NotReadyError(told, project.git_url, _("See whether the webhook belongs to another repository."))
        return code


def _found(mirror: Mirror, delivery: Delivery, ref: str) -> Code:
    """The commit, where a branch or a tag of that name has it: a run for somebody's fork is of no branch of ours."""
    kinds = {Delivery.Kind.PUSH: ("refs/heads/",), Delivery.Kind.TAG: ("refs/tags/",)}
    for kind in kinds.get(Delivery.Kind(delivery.kind), ("refs/heads/", "refs/tags/")):
        tip = mirror.resolve(f"{kind}{ref}")
        if not tip:
            continue
        commit = mirror.resolve(delivery.after) if delivery.after else tip  # that of an annotated tag is its object
        if commit and (commit == tip or mirror.contains(tip, commit)):
            return Code(commit, delivery.title or _subject(mirror, commit))
    return Code()


def _subject(mirror: Mirror, commit: str) -> str:
    code, told, _said = mirror.read(git.outline(str(mirror.path), commit, mirror.env))
    return "" if code else git.read_outline(told).subject


def _untouched(delivery: Delivery, webhook: Webhook, groups: list[ServerGroup], code: Code) -> str:
    """Why the changed files do not count, by our own comparison; empty if one does, or that cannot be known."""
    if not webhook.paths or not code.commit or delivery.has_no_past:
        return ""
    base = delivery.before or _live_everywhere(webhook.project, groups)
    if not base:
        return ""
    with mirror_of(webhook.project) as mirror:
        changed = mirror.changed_files(base, code.commit)
    if changed is None or any_fits(changed, webhook.paths):
        return ""
    words = {"patterns": ", ".join(webhook.paths[:5]), "count": len(changed)}
    return _("None of the %(count)d changed files fits %(patterns)s.") % words


# --- what is there -------------------------------------------------------------------------------------


def _live(project: Project, groups: list[ServerGroup]) -> dict[int, str]:
    """The release on each active server of these groups; empty where none is known."""
    running = running_in([project]).get(project.pk, {})
    return {server.pk: running.get(server.pk, "") for server in ServerGroup.flatten(groups) if server.is_active}


def _live_everywhere(project: Project, groups: list[ServerGroup]) -> str:
    """The commit that is live on all servers; empty where they differ, or it is not known."""
    versions = {*_live(project, groups).values()}
    return Release.objects.commit_of(project, versions.pop()) if len(versions) == 1 and "" not in versions else ""


def _same(delivery: Delivery, request: LaunchRequest, code: Code, now: datetime) -> Deployment | None:
    """The launch of the same commit of the same branch, lately, that goes to all of the same groups."""
    since = now - JOINS_FOR
    rows = Deployment.objects.filter(project=request.project, environment=request.project.environment)
    rows = rows.filter(created_at__gte=since, deployment_type=request.deployment_type, rollback_from=None)
    if request.is_restart_only:
        known = Delivery.objects.filter(project=request.project, ref=delivery.ref, after=delivery.after)
        earlier = known.exclude(after="").exclude(pk=delivery.pk).values("deployment")
        rows = rows.filter(pk__in=earlier)
    else:
        rows = rows.filter(commit_hash=code.commit, branch=request.branch)
    if delivery.again_of_id is not None:  # somebody wants it once more, if it has failed
        rows = rows.exclude(status__in=_ENDED_BADLY)
    wanted = {group.pk for group in request.groups}
    for it in rows.defer("plan").prefetch_related("server_groups").order_by("-pk"):
        if wanted <= {group.pk for group in it.server_groups.all()}:
            return it
    return None


def _outdated(request: LaunchRequest, code: Code) -> str:
    """Why it is not deployed, where all servers have something newer, or this very commit; empty where one has not."""
    live = _live(request.project, [*request.groups])
    if not live or "" in live.values():
        return ""
    commits = {version: Release.objects.commit_of(request.project, version) for version in {*live.values()}}
    if not all(commit and is_contained(request.project, code.commit, commit) for commit in commits.values()):
        return ""
    if {*commits.values()} == {code.commit}:
        return _("Commit %s is live on all servers already.") % code.commit[:12]
    last = Standing.objects.filter(project=request.project, server__in=live).order_by("-last__deployment")
    number = last.values_list("last__deployment", flat=True).first()
    return _("Outdated by #%d.") % number if number else _("Outdated by release %s.") % max(commits)


# --- the launch ----------------------------------------------------------------------------------------


def _request(delivery: Delivery, webhook: Webhook, groups: list[ServerGroup], code: Code) -> LaunchRequest:
    return LaunchRequest(
        project=webhook.project,
        groups=groups,
        deployment_type=webhook.deployment_type,
        branch="" if webhook.is_restart_only else _ref(delivery, webhook),
        commit="" if webhook.is_restart_only else code.commit,
        commit_message="" if webhook.is_restart_only else code.subject,
        pushers=_pushers(delivery),
        created_by=webhook.owner,
        launched_for=webhook.launched_for,
        webhook=webhook,
        trigger=Deployment.Trigger.WEBHOOK,
        queue=webhook.queue != Webhook.Queue.REFUSE,
        stays_in_line=webhook.queue == Webhook.Queue.ALL,
        elsewhere=webhook.server_groups.exists(),
        answers=webhook.answers or {},
    )


def _pushers(delivery: Delivery) -> tuple[str, ...]:
    """Those who stand behind it: who pushed, and who has sent it again by hand. None of them approves it."""
    by_hand = delivery.sent_by.email if delivery.sent_by is not None else ""
    return tuple(each for each in (*delivery.pushers, by_hand) if each)


def _tested(request: LaunchRequest) -> Verdict:
    """What would be launched now, and what would be in its way."""
    check_before_gates(request)
    check_launch(request)
    words = {
        "type": Deployment.Type(request.deployment_type).label,
        "what": request.branch or request.project.name,
        "groups": ", ".join(map(str, request.groups)),
    }
    told = _("A test: %(type)s of %(what)s to %(groups)s would be launched.") % words
    return Verdict(Outcome.TESTED, sentences(told, foreseen(request).note))
