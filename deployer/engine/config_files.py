"""The config files of one server: put there before its switch or its restart, and taken back again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _

from deployer.database import insist
from deployer.engine.voice import Voice
from deployer.engine.work import Work
from deployer.models import ConfigState, Left, Target
from deployer.plan import Location, PlannedFile
from deployer.probing.config_files import (
    Of,
    Verdict,
    WantedFile,
    finding_of,
    judge,
    places,
    remedy_for_changed,
    wanted_files,
    why_blocked,
    why_changed,
)
from deployer.probing.look import Finding
from projects.commands import config_files, service
from projects.commands.config_files import File, Kind, State
from servers.errors import NotReadyError, TransferError
from servers.sentences import listed, sentences
from servers.ssh.shell import SSHShell
from servers.supervised.script import only_before

#: Seconds that replacing them may take, besides their checks.
PATIENCE = 60


@dataclass(frozen=True)
class _Found:
    """A file as it is to be, what is there, and what deployer left there."""

    wanted: WantedFile
    state: State
    left: ConfigState | None
    verdict: Verdict


class ConfigFiles:
    """The config files of one server in a deployment."""

    def __init__(self, work: Work, target: Target, voice: Voice, link: SSHShell, location: Location) -> None:
        self.work = work
        self.plan = work.plan
        self.target = target
        self.voice = voice
        self.link = link
        self.location = location
        self.planned = self.plan.files_for(target.server_id)
        #: What was there is kept under this name, however often its turn comes.
        self.kept = salted_hmac("deployer.config_files", f"{target.deployment_id} {target.pk}").hexdigest()[:32]

    # --- before anything is touched ----------------------------------------------------------------

    def findings(self, planned: Sequence[PlannedFile], states: Sequence[State], release: str) -> list[Finding]:
        """What is to be said of those of the files that were looked at. Raises `NotReadyError` for one that is none."""
        wanted = {it.path: it for it in wanted_files(self.plan, self._of)}
        chosen = [wanted[it.path] for it in planned]
        found = self._judged(chosen, states, release)
        told = (finding_of(it.wanted, it.state, it.left, it.verdict, self.plan) for it in found)
        return [finding for finding in told if finding is not None]

    # --- putting them there ------------------------------------------------------------------------

    def put(
        self, facts: Mapping[str, str], release: str, states: Sequence[State] | None, begin: Callable[[], None]
    ) -> None:
        """See to it that each file is as it is to be, in this ``release`` or on the machine.

        ``states`` are what was seen a moment ago, ``begin`` is done before the first one is replaced. Raises
        `NotReadyError` where one was changed by somebody else and nobody has said that it is to be overwritten: then
        none is touched. Each is replaced whole or not at all.
        """
        wanted = wanted_files(self.plan, self._of, facts)
        found = self._judged(wanted, self._look(release) if states is None else states, release)
        self._refuse(found)
        same = [it for it in found if it.verdict == Verdict.SAME]
        self._adopt(same, release)
        if not (todo := [it for it in found if it.verdict != Verdict.SAME]):
            self.voice.say(_("Config files: all are as they should be"))
            return
        self.work.check()
        begin()
        insist(lambda: ConfigState.expect(*self._ours, [self._left(it, release) for it in todo]))
        self._write([self._file(it, release) for it in todo])
        insist(lambda: ConfigState.arrive(*self._ours))
        self.voice.say(_("Config files replaced: %s") % listed([it.wanted.path for it in todo]))

    def _write(self, files: Sequence[File]) -> None:
        text = config_files.write(self.target.run_key, files, self.kept)
        answer = self.link.capture(text, timeout=self._patience)
        if not answer.code:
            return
        file, why, said, remedy = config_files.why_not(answer.code, answer.stderr, files)
        what = _("Config file %s was not replaced") % file.path if file else _("The config files were not replaced")
        raise TransferError(what, f"{why} ({said})" if said else why, remedy)

    def _refuse(self, found: Sequence[_Found]) -> None:
        """Raises `NotReadyError` where a file cannot be put there, or was changed by somebody else."""
        blocked = [it for it in found if it.verdict == Verdict.BLOCKED]
        for it in blocked:
            raise NotReadyError(
                _("Config file %s cannot be put there") % it.wanted.planned.label, *why_blocked(it.wanted, it.state)
            )
        changed = [it for it in found if it.verdict == Verdict.CHANGED]
        if changed and not self.plan.overwrite_changed:
            first = changed[0]
            raise NotReadyError(
                _("Not overwritten: %s") % listed([it.wanted.path for it in changed]),
                why_changed(first.left),
                remedy_for_changed(),
            )
        for it in changed:
            self.voice.warn(
                sentences(_("Config file %s is overwritten") % it.wanted.planned.label, why_changed(it.left))
            )
        for it in found:
            if it.state.kind == Kind.NONE and it.left is not None and it.left.digest:
                self.voice.warn(_("Config file %s was deleted by hand: it is written again") % it.wanted.path)

    def _adopt(self, found: Sequence[_Found], release: str) -> None:
        """Take down that these are there, where that is not known yet."""
        news = [it for it in found if it.left is None or not it.left.is_as(self._left(it, release))]
        if news:
            insist(lambda: ConfigState.adopt(*self._ours, [self._left(it, release) for it in news]))

    # --- the way back ------------------------------------------------------------------------------

    def take_back(self, facts: Mapping[str, str], release: str, before: str = "") -> list[str] | None:
        """Put back what this deployment has replaced, and give the paths. Done twice, it does no harm.

        Only as long as the run ``before`` has not begun; nothing where its gate is closed. A file that somebody
        else has changed since is left, and that is said. Raises a `ShellError` where it cannot be done.
        """
        wanted = wanted_files(self.plan, self._of, facts)
        states = self._look(release)
        files = [
            (self._place(it.planned, state, release), self._user(it.planned), it.sha256)
            for it, state in zip(wanted, states, strict=True)
        ]
        text = config_files.put_back(self.kept, files, waits=bool(before))
        text = (only_before(before) if before else "") + text
        answer = self.link.capture(text, timeout=self._patience)
        if before and answer.code == config_files.TAKEN_OVER:
            return None
        paths = [it.path for it in wanted]
        back, left = config_files.what_was_put_back(answer.stdout, paths)
        self._remember(wanted, self._look(release), release)
        if back:
            self.voice.say(_("Config files put back: %s") % listed(back))
        for path in left:
            self.voice.warn(_("Config file %s was changed by somebody else since: it is left as it is") % path)
        if answer.code:
            raise TransferError(
                _("The config files could not be put back"),
                answer.stderr.strip()[-500:],
                _("What was there lies in the folder .deployer beside each of them."),
            )
        return back

    def _remember(self, wanted: Sequence[WantedFile], states: Sequence[State], release: str) -> None:
        """Take down which of the files are no longer those that this deployment has put there."""
        gone = [
            (self._release(it.planned, release), it.path)
            for it, state in zip(wanted, states, strict=True)
            if state.sha256 != it.sha256
        ]
        insist(lambda: ConfigState.go_back(*self._ours, gone))

    # --- the pieces --------------------------------------------------------------------------------

    @property
    def _patience(self) -> float:
        return PATIENCE + config_files.CHECKING * sum(bool(it.check) for it in self.planned)

    @property
    def _ours(self) -> tuple[int, int, int]:
        deployment = self.work.deployment
        return deployment.project_id, self.target.server_id or 0, deployment.pk

    @property
    def _of(self) -> Of:
        """The server as it was called at the launch: what is put back must be what was written."""
        return Of(self.target.server_id, self.target.server_name, self.target.host.rpartition(":")[0].strip("[]"))

    @cached_property
    def _known(self) -> dict[tuple[str, str], ConfigState]:
        project, server, _deployment = self._ours
        return insist(lambda: ConfigState.of(project, server))

    def _judged(self, wanted: Sequence[WantedFile], states: Sequence[State], release: str) -> list[_Found]:
        found = []
        for it, state in zip(wanted, states, strict=True):
            left = self._known.get((self._release(it.planned, release), it.path))
            verdict = judge(it, state, left, lambda path, sha256: self.work.contents(release).get(path) == sha256)
            found.append(_Found(it, state, left, verdict))
        return found

    def _look(self, release: str) -> list[State]:
        """What is there now, in one command."""
        in_release = "" if self.work.deployment.keeps_release else release
        asked = places(self.plan, self.planned, in_release)
        return config_files.read(self.link.capture(config_files.look(asked)).stdout, len(asked))

    def _file(self, found: _Found, release: str) -> File:
        planned, state = found.wanted.planned, found.state
        keeps = not planned.is_in_release or self.work.deployment.keeps_release
        return File(
            path=self._place(planned, state, release),
            content=found.wanted.content or "",
            mode=planned.mode,
            owner=planned.owner,
            check=planned.check,
            run_as=self._user(planned),
            before=state.sha256,
            owner_before=f"{state.uid}:{state.gid}" if state.kind == Kind.FILE else "",
            release=self._root(release) if planned.is_in_release else "",
            keeps=keeps or release == self.target.release_before,
        )

    def _root(self, release: str) -> str:
        """The folder of the release that the files lie in."""
        it = "current" if self.work.deployment.keeps_release else f"releases/{release}"
        return f"{self.location.deploy_path}/{it}"

    def _place(self, planned: PlannedFile, state: State, release: str) -> str:
        """Where a file lies; of a link on the machine, where the file behind it does."""
        if planned.is_in_release:
            return f"{self._root(release)}/{planned.path}"
        return state.real or service.at_home(planned.path, self.location.home)

    def _user(self, planned: PlannedFile) -> str:
        return places(self.plan, [planned])[0][1]

    def _release(self, planned: PlannedFile, release: str) -> str:
        """The release by which a file is known: none of those on the machine."""
        return release if planned.is_in_release else ""

    def _left(self, found: _Found, release: str) -> Left:
        wanted = found.wanted
        return Left(self._release(wanted.planned, release), wanted.path, wanted.sha256, wanted.made_of)
