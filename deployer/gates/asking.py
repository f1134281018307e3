"""May a rollout begin now: every gate in its order, asked at the launch and again at the turn.

Right and archive are asked before (deployer.launching.rules), then hold (of everything, and of triggers), lock, freeze,
approval and the place of the one active deployment; workers come last. Where a project belongs
(deployer.gates.belonging) is asked behind the freeze by the rules of a launch and by the line. All that is in the way
is told, and the first of it decides.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum

from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from deployer.gates.digest import Content
from deployer.gates.proof import Proof, proof_of
from deployer.gates.required import NOTHING, Required
from deployer.gates.windows import closing
from deployer.models import (
    Approval,
    Deployment,
    Freeze,
    Hold,
    Lock,
    Release,
    TrainApproval,
    TrainStop,
    TriggerHold,
    stop_behind,
)
from people.models import User
from people.rights import may
from people.roles import EVERYWHERE, Action, Place
from projects.models import Project
from servers.sentences import sentences

#: For how long an approval holds for a retry of the same, and a retry is begun though it has been closed meanwhile.
CARRIED = timedelta(hours=4)


class Before(IntEnum):
    """What can be in the way, in the order in which it is asked."""

    HOLD = 1
    LOCK = 2
    FREEZE = 3
    APPROVAL = 4
    PLACE = 5


@dataclass(frozen=True)
class Obstacle:
    """What is in the way, and why; ``blocking`` is the deployment that has the place."""

    before: Before
    sentence: str
    blocking: Deployment | None = None

    @property
    def is_shut(self) -> bool:
        """Whether a gate is closed: nobody gets through by waiting for somebody, or behind another one."""
        return self.before <= Before.FREEZE


@dataclass(frozen=True)
class Case:
    """A rollout that is to begin: what the gates need to know of it.

    ``deployment``, where it was written already; else ``content``, as soon as it is known what it would do.
    ``stop``: it is that of a train; the train is approved as a whole, and what it was launched by counts.
    ``overrider`` has set the gates aside, if anybody has; ``overrides`` that somebody with every right has.
    """

    project: Project
    launcher: User | None
    trigger: str
    launched_for: str = ""
    is_restart_only: bool = False
    keeps_release: bool = False
    is_rollback: bool = False
    retry_of: Deployment | None = None
    release: Release | None = None
    content: Content | None = None
    deployment: Deployment | None = None
    stop: TrainStop | None = None
    overrider: User | None = None
    overrides: bool = False

    @property
    def is_by_hand(self) -> bool:
        """Whether somebody launches it who can see what is closed: on a page, or on the machine."""
        return self.trigger in (Deployment.Trigger.WEB, Deployment.Trigger.CLI)

    @property
    def is_held_with_triggers(self) -> bool:
        """Whether it launches itself, so that it waits where triggers are held."""
        return self.trigger in (*Deployment.AUTOMATIC, Deployment.Trigger.TRAIN)

    @classmethod
    def of(cls, it: Deployment) -> "Case":
        """That of a deployment that was written."""
        override = it.approvals.filter(decision=Approval.Decision.OVERRIDDEN).select_related("decided_by").first()
        stop = stop_behind(it)
        return cls(
            project=it.project,
            launcher=it.created_by,
            trigger=stop.run.trigger if stop else it.trigger,
            launched_for=stop.run.launched_for if stop else it.launched_for,
            stop=stop,
            is_restart_only=it.is_restart_only,
            keeps_release=it.keeps_release,
            is_rollback=it.rollback_from_id is not None,
            retry_of=it.retry_of,
            release=it.release,
            deployment=it,
            overrider=override.decided_by if override else None,
            overrides=override is not None and override.decided_by is None and bool(override.decided_for),
        )

    def is_overridden(self, place: Place) -> bool:
        """Whether somebody who may has set aside what stands before ``place``."""
        return self.overrides or (self.overrider is not None and may(self.overrider, Action.ADMINISTER, place))


@dataclass(frozen=True)
class Answer:
    """All ``obstacles`` in their order, and ``remarks``: what is closed and does not stop this one, in amber.

    ``asks_approval``: somebody has to approve it, sooner or later; ``proof`` is what staging has shown, if it counts.
    """

    obstacles: tuple[Obstacle, ...]
    remarks: tuple[str, ...] = ()
    required: Required = NOTHING
    asks_approval: bool = False
    proof: Proof | None = None

    @property
    def first(self) -> Obstacle | None:
        """The obstacle that decides."""
        return self.obstacles[0] if self.obstacles else None

    @property
    def shut(self) -> list[str]:
        """Why gates are closed, if they are."""
        return [obstacle.sentence for obstacle in self.obstacles if obstacle.is_shut]

    @property
    def lacks(self) -> bool:
        """Whether an approval or a proof is still missing: it would have no turn even if all were open."""
        return any(obstacle.before == Before.APPROVAL for obstacle in self.obstacles)

    @property
    def may_be_waited_for(self) -> bool:
        """Whether something is in the way that opens again, or ends."""
        return any(obstacle.before != Before.APPROVAL for obstacle in self.obstacles)

    @property
    def may_be_overridden(self) -> bool:
        """Whether something is in the way that an admin can set aside."""
        return any(obstacle.before != Before.PLACE for obstacle in self.obstacles)

    @property
    def note(self) -> str:
        """All that is in the way; else what was closed and has not stopped it."""
        return sentences(*(obstacle.sentence for obstacle in self.obstacles)) or sentences(*self.remarks)

    @property
    def status(self) -> Deployment.Status:
        """What becomes of it, if it may wait."""
        if self.first is None:
            return Deployment.Status.PENDING
        waits = self.first.before == Before.APPROVAL
        return Deployment.Status.WAITING if waits else Deployment.Status.QUEUED


def ask(case: Case, now: datetime | None = None) -> Answer:
    """Every gate before ``case``. Raises `DecryptionError` where a plan that was approved cannot be read."""
    moment = now or timezone.now()
    closed, remarks = _closed(case, moment)
    obstacles = list(closed)
    required = Required.of(case.project)
    lacking, proof = _lacking(case, required, moment)
    obstacles += lacking
    if blocking := _in_the_way(case):
        obstacles.append(Obstacle(Before.PLACE, is_taken(case.project, blocking), blocking))
    return Answer(tuple(obstacles), tuple(remarks), required, bool(lacking) and required.approval, proof)


def _closed(case: Case, now: datetime) -> tuple[list[Obstacle], list[str]]:
    """What is closed: that stops it, and that does not."""
    obstacles, remarks = [], []
    passes_late = case.is_rollback or _is_late_retry(case, now)
    for obstacle, place, passes in _shut(case, now):
        if passes or (passes_late and obstacle.before != Before.HOLD):
            remarks.append(obstacle.sentence)
        elif case.is_overridden(place):
            remarks.append(_("Overridden: %s") % obstacle.sentence)
        else:
            obstacles.append(obstacle)
    return obstacles, remarks


def _is_late_retry(case: Case, now: datetime) -> bool:
    """Whether failed servers are tried again, of a rollout that was begun while it was open."""
    earlier = case.retry_of
    return earlier is not None and earlier.started_at is not None and earlier.started_at >= now - CARRIED


def _shut(case: Case, now: datetime) -> Iterator[tuple[Obstacle, Place, bool]]:
    """Each closed gate, the place that it stands before, and whether this one passes it all the same."""
    project = case.project
    (own,) = project.places
    hold = Hold.objects.select_related("made_by").first()
    if hold is not None:
        words = {"who": hold.maker, "reason": hold.reason}
        told = _("Everything new is on hold by %(who)s: %(reason)s") % words
        yield Obstacle(Before.HOLD, told), EVERYWHERE, False
    if case.is_held_with_triggers:
        held = TriggerHold.objects.open().filter(project=project).first()
        if held is not None:
            told = _("What launches “%(project)s” by itself is held until somebody lifts that: %(reason)s")
            words = {"project": str(project), "reason": held.reason}
            yield Obstacle(Before.HOLD, told % words), own, case.is_rollback
    locks = Lock.objects.before(project).closed().select_related("made_by", "project")
    for lock in sorted(locks, key=lambda lock: lock.is_warning):
        words = {"where": lock.where, "who": lock.maker, "reason": lock.reason}
        told = _("%(where)s is locked by %(who)s: %(reason)s") % words
        yield Obstacle(Before.LOCK, told), own, lock.is_warning or _is_makers(lock, case)
    for freezes in _by_place(Freeze.objects.before(project).select_related("project")):
        is_closed, window = closing(freezes, now)
        if is_closed and window is not None:
            words = {"where": window.where, "reason": window.reason}
            told = _("%(where)s is open only: %(reason)s") if window.is_open else _("%(where)s is frozen: %(reason)s")
            yield Obstacle(Before.FREEZE, told % words), own, False


def _by_place(freezes: "QuerySet[Freeze]") -> Iterator[list[Freeze]]:
    """Those of the environment, and those of the project: both have to be open."""
    known = list(freezes)
    yield [freeze for freeze in known if freeze.project_id is None]
    yield [freeze for freeze in known if freeze.project_id is not None]


def _is_makers(lock: Lock, case: Case) -> bool:
    """Whether whoever made the lock launches by hand."""
    if not case.is_by_hand:
        return False
    if lock.made_by_id is not None:
        return case.launcher is not None and lock.made_by_id == case.launcher.pk
    return case.launcher is None and bool(lock.made_for) and lock.made_for == case.launched_for


def _lacking(case: Case, required: Required, now: datetime) -> tuple[list[Obstacle], Proof | None]:
    """The approval or the proof that is required and not there, and what staging has shown."""
    needs_approval = required.approval and not (case.is_restart_only and required.exempts_restarts)
    needs_proof = required.proof_hours is not None and not case.keeps_release
    proof = proof_of(case.release, case.project, required.proof_hours or 0, now) if needs_proof else None
    if needs_approval:
        if proof is not None and proof.is_given and required.proof_is_enough:
            return [], proof
    elif proof is None or proof.is_given or case.is_rollback:
        return [], proof
    (own,) = case.project.places
    if case.is_overridden(own) or (needs_approval and is_approved(case, required, now)):
        return [], proof
    if needs_approval:
        told = _("A second person has to approve it.")
        if required.teams:
            names = ", ".join(team.name for team in required.teams)
            told = _("Somebody of %s has to approve it.") % names
        return [Obstacle(Before.APPROVAL, told)], proof
    words = {"hours": required.proof_hours, "why": proof.sentence if proof else ""}
    told = _("Staging has to prove it for %(hours)d h. %(why)s") % words
    return [Obstacle(Before.APPROVAL, told)], proof


def is_approved(case: Case, required: Required, now: datetime) -> bool:
    """Whether somebody has approved just this, or lately what it is a retry of; and would be asked today as well."""
    own = _approved(case, case.deployment, required)
    earlier = [given for it in _retried(case.retry_of) if (given := _approved(case, it, required)) is not None]
    of_train = case.stop is not None and any(counts(person, case, required) for person in approvers_of(case.stop))
    if of_train and case.is_rollback:
        return True  # the way back of what was approved
    if own is None and not earlier and not of_train:
        return False
    content = Content.of(case.deployment) if case.deployment is not None else case.content
    if content is None:
        return False
    if of_train and case.stop is not None and case.stop.digest == content.digest():
        return True
    if own is not None and own.digest == content.digest():
        return True
    return any(_is_carried(content, given, now) for given in earlier)


#: So many retries are looked back through for an approval.
_RETRIES = 20


def _retried(it: Deployment | None) -> Iterator[Deployment]:
    """What a retry is one of, and what that was one of."""
    for _number in range(_RETRIES):
        if it is None:
            return
        yield it
        it = it.retry_of


def _is_carried(content: Content, given: Approval, now: datetime) -> bool:
    """Whether an approval holds for the same again, on those of its servers that are left."""
    if given.decided_at < now - CARRIED:
        return False
    servers = Content.of(given.deployment).servers
    left = tuple(server for server in servers if server in content.servers)
    return content.servers == left and given.digest == content.digest(servers)


def _approved(case: Case, deployment: Deployment | None, required: Required) -> Approval | None:
    """The approval of a deployment, unless it is void, something else was decided since, or it no longer counts."""
    if deployment is None:
        return None
    decided = deployment.approvals.filter(void_at=None).exclude(decision=Approval.Decision.OVERRIDDEN)
    last = decided.select_related("deployment", "decided_by").first()
    if last is None or last.decision != Approval.Decision.APPROVED or not counts(last.decided_by, case, required):
        return None
    return last


def approvers_of(stop: TrainStop) -> list[User | None]:
    """Those who have approved the run of a stop, as it is."""
    given = TrainApproval.objects.filter(run=stop.run_id, digest=stop.run.digest)
    approved = given.filter(decision=TrainApproval.Decision.APPROVED).select_related("decided_by")
    return [approval.decided_by for approval in approved]


def counts(approver: User | None, case: Case, required: Required) -> bool:
    """Whether the approver is still somebody who is asked, by what is required now, and not who launches it."""
    if approver is None or not approver.is_active:
        return False
    if case.deployment is not None and case.deployment.was_pushed_by(approver):
        return False
    if approver.get_username() == case.launched_for or (case.launcher is not None and approver.pk == case.launcher.pk):
        return False
    if case.stop is not None and case.stop.run.owner_id == approver.pk:
        return False
    if required.teams:
        return approver.teams.filter(pk__in=[team.pk for team in required.teams]).exists()
    (own,) = case.project.places
    return may(approver, Action.OPERATE, own)


def is_taken(project: Project, blocking: Deployment | None) -> str:
    """That the place of the active one is taken, by ``blocking`` if it is still there."""
    number = f" (#{blocking.pk})" if blocking else ""
    words = {"project": project, "environment": project.get_environment_display(), "number": number}
    told = _(
        "“%(project)s” is already being deployed to %(environment)s%(number)s: wait for it to finish, or cancel it."
    )
    return told % words


def _in_the_way(case: Case) -> Deployment | None:
    """The deployment that has the place of the active one."""
    rows = Deployment.objects.at_work().filter(project=case.project, environment=case.project.environment)
    if case.deployment is not None:
        rows = rows.exclude(pk=case.deployment.pk)
    return rows.defer("plan").first()
