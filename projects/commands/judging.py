"""What became of a service: the verdict on what was found before a restart and after it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from projects.commands.kept import NOT_FOUND, Kept
from projects.commands.matching import Found, choose
from projects.commands.proof import Identity, Verdict, keys, roots, runs
from projects.commands.services.kind import Does


@dataclass(frozen=True)
class Judgement:
    """The verdict, and by whom it stands. ``others`` could have been meant and were left alone."""

    verdict: Verdict
    before: tuple[Identity, ...]
    after: tuple[Identity, ...]
    others: tuple[Identity, ...] = ()


@dataclass(frozen=True)
class Judge:
    """Judges one service by what was there ``before``.

    ``named``: the operator has said what it is. ``does`` is what was done with it. ``leaving`` are the keys of old
    processes that only end what they have begun: they are counted as gone. ``sure``: its name is known to be right,
    although nothing of it is found; so it is where its keeper, which ``vouches``, knows the name.
    """

    before: Found
    named: bool
    does: Does = Does.RESTART
    leaving: frozenset[tuple[object, ...]] = frozenset()
    sure: bool = True
    vouches: bool = False

    @property
    def reloads(self) -> bool:
        """Whether it was only to reload."""
        return self.does == Does.RELOAD

    def __call__(self, after: Found, *, last: bool = False) -> Judgement:
        """The verdict on what was found ``after`` it.

        ``last``: there is no more time for old processes to end and for new ones to come.
        """
        if self.does == Does.STOP:
            return self._of_stop(after)
        judgement = self._of_restart(after, last=last)
        return self._of_start(judgement, after.kept) if self.does == Does.START else judgement

    def _of_stop(self, after: Found) -> Judgement:
        """Whether nothing of it runs any more: no process, old or new, and no keeper that is about to start one."""
        kept = after.kept
        if kept is None:
            chosen = choose(self.before.processes, after.processes, after.user)
            was, now, others = chosen.before, chosen.after, chosen.others
        else:
            was, now, others = self.before.processes, after.processes, ()
        is_off = kept is None or kept.is_off or kept.state == NOT_FOUND
        left = [it for it in was if it.pid and it.key not in keys(now) and after.has(it)]
        now = tuple(it for it in (*now, *left) if it.pid or not is_off)
        verdict = Verdict.STILL_RUNNING if now or not is_off else Verdict.STOPPED
        is_right = self.sure or (self.vouches and kept is not None and kept.state != NOT_FOUND)
        if verdict == Verdict.STOPPED and not was and not is_right:
            verdict = Verdict.UNKNOWN
        return Judgement(Verdict.UNKNOWN if kept and kept.problem else verdict, was, now, others)

    def _of_start(self, judgement: Judgement, kept: Kept | None) -> Judgement:
        """The verdict on a start: what ran already is well, and nothing of it has to be replaced."""
        old = keys(self.before.processes)
        stayed = [it for it in judgement.after if it.key in old]
        if not stayed or judgement.verdict not in {Verdict.UNCHANGED, Verdict.RELOADED, Verdict.REPLACED}:
            return judgement
        if kept is not None and (kept.is_off or not kept.is_up):
            return replace(judgement, verdict=Verdict.DEAD)
        if len(stayed) == len(judgement.after):
            return replace(judgement, verdict=Verdict.RUNNING)
        return replace(judgement, verdict=Verdict.REPLACED, before=())

    def _of_restart(self, after: Found, *, last: bool) -> Judgement:
        if after.kept is not None:
            survivors = self._survivors(after, after.kept)
            now = (*after.processes, *(it for it in survivors if it.key not in keys(after.processes)))
            now = self._without_leaving(now)
            return Judgement(self._of_kept(after.kept, now, last=last), self.before.processes, now)
        chosen = choose(self.before.processes, after.processes, after.user)
        # One that goes by another title now is still the same.
        renamed = [it for it in chosen.before if it.key not in keys(chosen.after) and after.has(it)]
        now = self._without_leaving((*chosen.after, *renamed))
        return Judgement(self._of_processes(chosen.before, now, last=last), chosen.before, now, chosen.others)

    def is_done(self) -> bool:
        """Whether it is already as it is to be: stopped, or running."""
        return self(self.before).verdict in {Verdict.STOPPED, Verdict.RUNNING}

    def _without_leaving(self, service: Sequence[Identity]) -> tuple[Identity, ...]:
        return tuple(it for it in service if it.key not in self.leaving)

    def _countable(self, kept: Kept) -> list[Identity]:
        """The old processes that would be the old service; without a control group, not what is only around it."""
        old = [it for it in self.before.processes if it.pid]
        return old if kept.group else [it for it in old if not it.around] or old

    def _survivors(self, after: Found, kept: Kept) -> tuple[Identity, ...]:
        """Those of them that are there still."""
        there = keys(after.processes)
        return tuple(it for it in self._countable(kept) if (it.key in there if kept.holds else after.has(it)))

    def _of_processes(self, before: Sequence[Identity], after: Sequence[Identity], *, last: bool) -> Verdict:
        if not after:
            return Verdict.DEAD if self.named or before else Verdict.UNKNOWN
        if not keys(before) & keys(after):
            return Verdict.REPLACED
        return self._of_survivors(before, after, last=last)

    def _of_kept(self, kept: Kept, after: Sequence[Identity], *, last: bool) -> Verdict:
        if kept.problem:
            return Verdict.UNKNOWN
        survives = bool(keys(self._countable(kept)) & keys(after))
        if survives and not kept.group:  # whatever became of the new one, the old one is there
            return self._of_survivors(self.before.processes, after, last=last)
        if kept.is_looping:
            return Verdict.CRASH_LOOPING
        if not kept.is_up or not after:
            return Verdict.DEAD
        if survives:
            return self._of_survivors(self.before.processes, after, last=last)
        only_around = any(it.around for it in after) and all(it.around for it in after)
        if only_around and any(it.pid and not it.around for it in self.before.processes):
            return Verdict.DEAD  # what runs is only there to start or to keep the application
        return Verdict.UNCHANGED if runs(self.before.processes) & runs(after) else Verdict.REPLACED

    def _of_survivors(self, before: Sequence[Identity], after: Sequence[Identity], *, last: bool) -> Verdict:
        """Where old processes still run: unchanged, unless they have executed or started their program anew."""
        pairs = [(old, new) for old in before for new in after if old.key == new.key]
        if all(old.image and new.image and old.image != new.image for old, new in pairs):
            return Verdict.RELOADED
        if not self.reloads:
            return Verdict.UNCHANGED
        masters = {new.key for _old, new in pairs} & keys(roots(before))
        new = [it for it in after if it.key not in keys(before)]
        old_workers = [now for _old, now in pairs if now.key not in masters]
        if not masters or self._is_second_master(new, after, masters):
            return Verdict.UNCHANGED
        leaving = all("shutting down" in it.command for it in old_workers)  # nginx: they end what they have begun
        if new and (leaving or (last and len(new) >= len(old_workers))):
            return Verdict.RELOADED
        alone = not new and len(before) == len(masters)
        return Verdict.UNKNOWN if alone else Verdict.UNCHANGED

    def _is_second_master(
        self, new: Sequence[Identity], after: Sequence[Identity], masters: set[tuple[object, ...]]
    ) -> bool:
        """Whether a second master stands beside the old one: nobody's child, or one that has workers of its own.

        A worker may have children too; then there are as many new workers as there were old ones.
        """
        pids = {it.pid for it in after if it.key in masters}
        direct = [it for it in new if it.parent in pids]
        if any(it.parent not in pids | {other.pid for other in new} for it in new):
            return True
        if not any(it.parent in {child.pid for child in direct} for it in new):
            return False
        were = [it for it in self.before.processes if it.parent in pids]
        return len(direct) < max(len(were), 2) or not keys(were).isdisjoint(keys(after))
