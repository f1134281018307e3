"""A run that outlives the link: started once, followed to its recorded end over as many links as that takes."""

import contextlib
import secrets
import threading
import time
from collections.abc import Mapping
from types import MappingProxyType

from django.conf import settings
from django.utils.translation import gettext as _

from servers.errors import (
    LinkLostError,
    NonsenseError,
    NoSessionError,
    RunLostError,
    ScriptTimeoutError,
    ShellError,
    StoppedError,
    TransferError,
    UnreachableError,
)
from servers.pauses import pauses
from servers.sentences import printable
from servers.shell import ROOM, STDERR, STDOUT, OnOutput, Script, Shell
from servers.ssh.shell import RECONNECTING, SSHShell
from servers.supervised import script as protocol
from servers.supervised.follower import LOST, REBOOTED, EndlessError, Follower, Record

#: Seconds that ending a run may take: a busy server is slow to list its processes.
ENDING = 120.0
#: Seconds for which the output of a run that was ended is read on.
_LAST_WORDS = 30.0
#: Seconds for which the output of a run that has ended within its limit is read on: a server may drip.
_TO_THE_END = 3600.0
#: Bytes of output that are fetched at once where they are asked for and not followed.
_PIECE = 1 << 20
_FROM_THE_BEGINNING: Mapping[str, int] = MappingProxyType({})


class SupervisedRun(Shell):
    """The run with the name ``key`` on the server at the other end of ``link``, whether it was started yet or not."""

    def __init__(self, link: SSHShell, key: str = "") -> None:
        self.link = link
        self.key = key or secrets.token_hex(16)
        #: Bytes of each of its streams that the server keeps.
        self.limit = settings.DEPLOYER_LOG_MAX_MB << 20

    def run(
        self,
        script: Script,
        on_output: OnOutput,
        *,
        timeout: float,
        stop: threading.Event,
        room: threading.Event = ROOM,
    ) -> int:
        """Run ``script`` once on the server, whatever happens to the link, and give its recorded exit status."""
        return self.carry_out(script, "", on_output, timeout=timeout, stop=stop, room=room)[0]

    def carry_out(
        self,
        script: Script,
        question: str,
        on_output: OnOutput,
        *,
        timeout: float,
        stop: threading.Event,
        room: threading.Event = ROOM,
        taken: Mapping[str, int] = _FROM_THE_BEGINNING,
    ) -> tuple[int, str]:
        """As `run`, and what ``question``, a short script of our own, printed at the moment when ``script`` had ended.

        Nothing where there was no time for the answer: the exit status of the script is what matters. A lost link is
        taken up again until the time limit and no output is lost or doubled; ``taken`` is how much of each stream
        somebody has read before. The limit is the script's own: once it has ended, its output is read to the end,
        for up to an hour. Raises as `Shell.run`; besides `RunLostError` when the runner is gone without a record,
        `NonsenseError` where the server does not say how it ended, and the last connection error when it could not be
        reached again in time.
        """
        follower = Follower(on_output, taken, 2 * self.limit)
        deadline = first_deadline = time.monotonic() + timeout
        begin = protocol.start(self.key, script, f"END_{secrets.token_hex(16)}", self.limit)
        waits = pauses(*RECONNECTING)
        heard, heard_at = dict(follower.taken), time.monotonic()
        stopped: StoppedError | None = None
        while True:
            try:
                if not self.link.is_alive:
                    self.link.open()
                waits = pauses(*RECONNECTING)
                text = self._following(follower, "" if follower.met else begin) + question
                self._follow(follower, text, deadline, stop, room)
                return self._exit_status(follower, room), follower.answer.decode(errors="surrogateescape")
            except (StoppedError, ScriptTimeoutError) as error:
                if stopped is not None:
                    raise stopped from error
                if isinstance(error, ScriptTimeoutError) and deadline > first_deadline:
                    raise self._nonsense(_("its output has no end")) from error
                if self.link.abandoned or self._end(follower, script.run_as, room):
                    raise
                # It had ended by itself: only its output was still being read.
                deadline = time.monotonic() + _TO_THE_END
                if isinstance(error, StoppedError):
                    stopped, stop, deadline = error, threading.Event(), time.monotonic() + ENDING
            except (LinkLostError, NoSessionError, UnreachableError) as error:
                if follower.taken != heard:
                    heard, heard_at = dict(follower.taken), time.monotonic()
                if self.link.abandoned or stop.is_set() or time.monotonic() > min(deadline, heard_at + timeout):
                    raise
                self.link.notice(_("%s Connecting again.") % error)
                self.link.close()
                follower.lost_link()
                follower.was_lost = True
                stop.wait(next(waits))

    def close_gate(self) -> bool:
        """See to it that the run is never started from now on. False: it has been started already."""
        answer = self.link.capture(protocol.close_gate(self.key))
        said = answer.stdout.strip()
        if said not in {"never", "started"}:
            raise TransferError(
                _("%s does not say whether the script was started") % self.link.server,
                answer.stderr.strip()[-300:],
                _("Check the free space and the rights of the login's home."),
            )
        return said == "never"

    def forget(self) -> None:
        """Delete what the server keeps of the run, once its end is recorded elsewhere; its gate goes too."""
        with contextlib.suppress(ShellError):
            self.link.capture(protocol.forget(self.key))

    def kill(self, run_as: str = "") -> bool:
        """End the script, which runs as the user ``run_as`` where one is named, and everything below it.

        False: it had ended before, and nothing was done.
        """
        return self.link.capture(protocol.kill(self.key, run_as=run_as), timeout=ENDING).stdout.strip() != "ended"

    # --- following ---------------------------------------------------------------------------------

    def _following(self, follower: Follower, begin: str = "") -> str:
        """The text that sends what ``follower`` has not taken yet; ``begin`` starts the run first."""
        return protocol.follow(self.key, follower.trailer, follower.taken[STDOUT], follower.taken[STDERR], begin)

    def _follow(
        self, follower: Follower, text: str, deadline: float, stop: threading.Event, room: threading.Event
    ) -> None:
        """Follow the run until there is a record of its end, or it is known that there will be none."""
        code = None
        try:
            code = self.link.execute(text, follower.take, deadline=deadline, stop=stop, room=room)
        except (ShellError, EndlessError) as error:
            if follower.record is None or self.link.abandoned:
                if isinstance(error, EndlessError):
                    raise self._nonsense(_("its output has no end")) from error
                raise
            follower.answer.clear()  # the end is known; only the question behind it was cut short
        if follower.record is None:
            follower.record = self._without_record(follower, code)

    def _without_record(self, follower: Follower, code: int | None) -> str:
        """The record of a run whose follower ended without one. Raises unless the run is gone for good."""
        if code != protocol.NOTHING_TO_FOLLOW:
            raise LinkLostError(_("The link to %s was lost") % self.link.server, follower.stray())
        if not follower.met and not follower.was_lost:
            raise TransferError(
                _("The run on %s could not be started") % self.link.server,
                follower.stray(),
                _("Check the free space and the rights of the login's home."),
            )
        return LOST  # its folder is gone

    def _exit_status(self, follower: Follower, room: threading.Event) -> int:
        """What the record says, once all of the output is there."""
        if follower.record in {None, LOST, REBOOTED}:
            raise RunLostError(
                _("The run on %s left no record of its end") % self.link.server,
                _("the machine was restarted in the meantime")
                if follower.record == REBOOTED
                else _("its runner was killed"),
                _("Check the server before you do anything again."),
            )
        try:
            record = Record.read(follower.record or "")
        except ValueError as error:
            raise self._nonsense(_("the record of its end is “%s”") % printable(str(error))[:60]) from error
        self._fetch_rest(follower, record, room)
        self._say_what_is_odd(record)
        return record.code

    def _fetch_rest(self, follower: Follower, record: Record, room: threading.Event) -> None:
        """Hand on the last bytes where the follower ended a moment before they were written."""
        for stream, file in ((STDOUT, "out"), (STDERR, "err")):
            while (have := follower.taken[stream]) < record.sizes[stream]:
                room.wait(ENDING)
                text = protocol.rest(self.key, file, have, min(record.sizes[stream] - have, _PIECE))
                piece = self.link.capture(text, timeout=ENDING).stdout.encode(errors="surrogateescape")
                if not piece:
                    break  # somebody has cut the file
                try:
                    follower.hand_on(stream, piece)
                except EndlessError as error:
                    raise self._nonsense(_("its output has no end")) from error

    def _nonsense(self, why: str) -> NonsenseError:
        return NonsenseError(
            _("%s does not say how the script ended") % self.link.server,
            why,
            _("Check the server before you do anything again."),
        )

    def _say_what_is_odd(self, record: Record) -> None:
        if record.held:
            self.link.notice(
                _(
                    "A process that the script left running still holds its output; from now on that output is "
                    "discarded. Let it write to a file of its own (>app.log 2>&1)."
                )
            )
        if record.cut and max(record.sizes.values()) >= self.limit:
            self.link.notice(
                _(
                    "The output is incomplete: of each stream, the server keeps %(limit)d MB and the last %(last)d KB "
                    "(DEPLOYER_LOG_MAX_MB)."
                )
                % {"limit": self.limit >> 20, "last": protocol.LAST >> 10}
            )
        elif record.cut:
            self.link.notice(_("The output is incomplete: the server could not store all of it. Check its free space."))

    def _end(self, follower: Follower, run_as: str, room: threading.Event) -> bool:
        """End the run and hand over what it still printed. False: it had ended before, and all is as it was."""
        if not self.link.is_alive:
            self.link.open()
        was_ended = self.kill(run_as)
        follower.lost_link()
        if was_ended:
            text = self._following(follower)
            try:
                self.link.execute(text, follower.take, deadline=time.monotonic() + _LAST_WORDS, room=room)
            except ShellError as error:
                self.link.notice(_("The end of the output was not read: %s") % error)
            except EndlessError:
                self.link.notice(_("The end of the output was not read: %s") % _("its output has no end"))
        return was_ended
