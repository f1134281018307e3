"""How a deployment ends: its final status, and the message that names every server that is not as it should be."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from deployer.models import Deployment, Target
from servers.sentences import because, clauses, sentences

Status = Target.Status


@dataclass(frozen=True)
class Outcome:
    """The end of a deployment to ``targets``, as far as each of them has come. What is true of several is said once.

    ``why`` says what stopped the routine itself, if anything did; ``lost`` is what was said of the worker that was
    lost before, None where none was. ``failure`` is what has failed although all servers may be as they should be,
    ``warnings`` what else is to be said of a success.
    """

    targets: Sequence[Target]
    why: str = ""
    cancelled: bool = False
    lost: str | None = None
    failure: str = ""
    warnings: Sequence[str] = ()

    @property
    def status(self) -> Deployment.Status:
        """The final status."""
        ends = {target.status for target in self.targets}
        if not (self.why or self.failure) and ends == {Status.SUCCESS}:
            return Deployment.Status.SUCCESS
        if self.cancelled:
            return Deployment.Status.CANCELLED
        if self.lost is not None and Status.UNKNOWN in ends:
            return Deployment.Status.INTERRUPTED
        return Deployment.Status.FAILED

    @property
    def message(self) -> str:
        """What is to be said of it; of a success, its warnings alone."""
        if self.status == Deployment.Status.SUCCESS:
            return because(_("With warnings"), sentences(*self.warnings)) if self.warnings else ""
        cancelled = _("Cancelled.") if self.cancelled else ""
        put_back = [target for target in self.targets if self._first(target).was_put_back]
        others = [
            self._named(Status.ROLLED_BACK, _("Rolled back: %s"), put_back),
            _("Put back, having succeeded: %s") % ", ".join(map(str, put_back)) if put_back else "",
            self._named(Status.SUCCESS, _("Done: %s")),
            self._named(Status.CANCELLED, _("Stopped or not started: %s")),
            self._named(Status.SKIPPED, _("Skipped: %s")) if not self.why else "",
        ]
        named = [self.why, self._failures(), self.failure]
        return sentences(cancelled, self.lost or "", *named, *others, *self._kept())

    def _kept(self) -> list[str]:
        """The servers that have succeeded and could not be put back, with why."""
        done = [target for target in self.targets if target.status == Status.SUCCESS and target.error]
        return [because(target, target.error) for target in done]

    def _failures(self) -> str:
        failed = [target for target in self.targets if self._first(target).has_failed]
        if not failed:
            return ""
        count = ngettext(
            "%(failed)d of %(all)d server failed", "%(failed)d of %(all)d servers failed", len(self.targets)
        ) % {"failed": len(failed), "all": len(self.targets)}
        same: dict[str, list[str]] = {}
        for target in failed:
            same.setdefault(target.error, []).append(target.server_name)
        return because(count, clauses(*(because(", ".join(names), error) for error, names in same.items())))

    def _first(self, target: Target) -> Target:
        """The name under which the work on a machine was done."""
        return next((other for other in self.targets if other.pk == target.same_as_id), target)

    def _named(self, status: Status, words: str, apart: Sequence[Target] = ()) -> str:
        named = [target for target in self.targets if target.status == status and target not in apart]
        return words % ", ".join(map(str, named)) if named else ""
