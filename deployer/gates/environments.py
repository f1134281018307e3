"""What stands before whole environments, for work that belongs to no project: commands on servers."""

from collections.abc import Collection
from dataclasses import dataclass

from django.utils import timezone
from django.utils.translation import gettext as _

from deployer.gates.windows import closing
from deployer.models import Deployment, Freeze, Hold, Lock
from people.models import User
from servers.models import Environment


@dataclass(frozen=True)
class Closed:
    """``shut``: why nothing may begin; ``remarks``: what is closed and stops no command, in amber."""

    shut: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def before_commands(
    environments: Collection[str], launcher: User | None, trigger: str, launched_for: str = ""
) -> Closed:
    """The hold and the locks of ``environments`` stop a command; whoever made a lock passes it by hand.

    A freeze does not, and is told: it is made for rollouts, long before, and in it somebody has to be able to find out
    what is wrong with a server. A lock means “hands off”, now. Locks of projects are before rollouts of those alone.
    """
    shut: list[str] = []
    remarks: list[str] = []
    hold = Hold.objects.select_related("made_by").first()
    if hold is not None:
        words = {"who": hold.maker, "reason": hold.reason}
        shut.append(_("Everything new is on hold by %(who)s: %(reason)s") % words)
    locks = Lock.objects.closed().filter(project=None, environment__in=environments).select_related("made_by")
    is_by_hand = trigger in (Deployment.Trigger.WEB, Deployment.Trigger.CLI)
    for lock in locks.order_by("pk"):
        told = _("%(where)s is locked by %(who)s: %(reason)s")
        told %= {"where": lock.where, "who": lock.maker, "reason": lock.reason}
        passes = lock.is_warning or (is_by_hand and _is_makers(lock, launcher, launched_for))
        (remarks if passes else shut).append(told)
    for name in [it for it in Environment.values if it in environments]:
        is_closed, window = closing(Freeze.objects.filter(project=None, environment=name), timezone.now())
        if is_closed and window is not None:
            told = _("%(where)s is open only: %(reason)s") if window.is_open else _("%(where)s is frozen: %(reason)s")
            remarks.append(told % {"where": window.where, "reason": window.reason})
    return Closed(tuple(shut), tuple(remarks))


def _is_makers(lock: Lock, launcher: User | None, launched_for: str) -> bool:
    if lock.made_by_id is not None:
        return launcher is not None and lock.made_by_id == launcher.pk
    return launcher is None and bool(lock.made_for) and lock.made_for == launched_for
