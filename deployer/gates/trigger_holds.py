"""The hold of what launches a project by itself: made by hand, and lifted once somebody has looked.

A rollback makes one too: at its launch (deployer.launching.launch), or where a rollout has put servers back, in the
transaction that ends it (`Deployment.end`). Whoever may launch the project may lift it, as they may roll it back.
"""

from django.db import transaction

from deployer.gates.reasons import said
from deployer.models import TriggerHold
from people.models import User
from people.record import Act, actor, record
from people.rights import insist
from people.roles import Action
from projects.models import Project


def hold_triggers(project: Project, reason: str, by: User | None, login: str = "") -> bool:
    """Hold them by hand. Says whether they were not held before. Raises `NotAllowedError`."""
    if by is not None:
        insist(by, Action.OPERATE, project)
    return TriggerHold.objects.begin(project, said(reason), by=by, login=login)


def release_triggers(project: Project, by: User | None, login: str = "") -> TriggerHold | None:
    """Let them launch again; gives the hold that was lifted, if there was one. Raises `NotAllowedError`."""
    if by is not None:
        insist(by, Action.OPERATE, project)
    with transaction.atomic():
        hold = TriggerHold.objects.open().filter(project=project).select_related("made_by").first()
        if hold is None or not hold.lift(by, login):
            return None
        record(actor().by(by), Act.RELEASED, hold, note=hold.reason)
    return hold
