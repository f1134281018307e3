"""What people put before rollouts and take away again; and releases that they mark as bad."""

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from deployer.gates.reasons import said
from deployer.models import Hold, Lock, Release
from people.models import User
from people.record import Act, Before, actor, changes, delete, record, snapshot
from people.rights import insist
from people.roles import EVERYWHERE, Action


def put_on_hold(reason: str, by: User | None, login: str = "") -> bool:
    """Stop everything new. Says whether it was not on hold before. Raises `NotAllowedError`."""
    if by is not None:
        insist(by, Action.ADMINISTER, EVERYWHERE)
    reason = said(reason)
    values = {"reason": reason, "made_by": by, "made_for": "" if by else login}
    with transaction.atomic():
        hold, is_new = Hold.objects.get_or_create(one=1, defaults=values)
        if is_new:
            record(actor(), Act.HELD, hold, note=reason)
    return is_new


def lift_hold(by: User | None) -> bool:
    """Let new things begin again. Says whether it was on hold. Raises `NotAllowedError`."""
    if by is not None:
        insist(by, Action.ADMINISTER, EVERYWHERE)
    with transaction.atomic():
        hold = Hold.objects.select_for_update().first()
        if hold is not None:
            delete(hold)
    return hold is not None


def close_lock(lock: Lock, by: User | None, login: str = "") -> None:
    """Write a new lock. Raises `NotAllowedError`."""
    if by is not None:
        insist(by, Action.OPERATE, lock)
    lock.made_by, lock.made_for, lock.reason = by, "" if by else login, said(lock.reason)
    with transaction.atomic():
        lock.save()
        record(actor(), Act.LOCKED, lock, None, changes({}, snapshot(lock))[1])


def lift_lock(lock: Lock, by: User | None, login: str = "") -> bool:
    """Open a lock: one's own, or as a maintainer of its place. Says whether it was closed. Raises `NotAllowedError`."""
    if by is not None:
        is_own = lock.made_by_id == by.pk
        insist(by, Action.OPERATE if is_own else Action.EDIT, lock)
    with transaction.atomic():
        lifted = lock.lift(by, "" if by else login)
        if lifted:
            record(actor(), Act.UNLOCKED, lock)
    return lifted


def mark_bad(release: Release, reason: str, by: User) -> None:
    """Have a release refused everywhere from now on. Raises `NotAllowedError`."""
    insist(by, Action.OPERATE, release)
    _mark(release, bad_reason=said(reason), bad_by=by, bad_at=timezone.now())


def unmark(release: Release, by: User) -> None:
    """Take that back; as a maintainer. Raises `NotAllowedError`."""
    insist(by, Action.EDIT, release)
    _mark(release, bad_reason="", bad_by=None, bad_at=None)


def _mark(release: Release, **values: object) -> None:
    with transaction.atomic():
        before = Before(release)
        Release.objects.filter(pk=release.pk).update(**values)
        before.record()
    release.refresh_from_db(fields=[*values])


def lifted_sentence(lock: Lock, lifted: bool) -> str:
    """What became of a request to open a lock."""
    if not lifted:
        return _("The lock before %s was open already.") % lock.where
    if lock.maker:
        return _("%(where)s is unlocked. %(who)s had locked it.") % {"where": lock.where, "who": lock.maker}
    return _("%s is unlocked.") % lock.where
