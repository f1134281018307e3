"""A worker's side: the logs that somebody looks at are followed side by side, each by one login, as long as that."""

import logging
import secrets
import threading
import time
from collections import deque

from django.db import Error as DatabaseError
from django.db import connections
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from deployer.following.asked import IN_ALL, LOST, PATIENCE, sweep_follows
from deployer.log.lines import LineSplitter
from deployer.log.masking import Masker
from deployer.models import FollowedLine, LogFollow
from deployer.plan import secrets_of
from people.now import Now
from projects.commands import following
from projects.commands.services.kind import Where
from servers.errors import NotReadyError, ScriptTimeoutError, ShellError, StoppedError, explained
from servers.sentences import storable
from servers.shell import STDERR, STDOUT
from servers.ssh.shell import SSHShell, connect

logger = logging.getLogger(__name__)

#: Seconds for which one log is followed without somebody's saying that it shall go on.
LONGEST = 600
#: Bytes of one log that are read in a second, and lines that are kept.
BYTES_A_SECOND, KEPT_LINES = 256 << 10, 5_000
#: Seconds between two looks at what is asked for, and between two writes of lines.
LOOK_EVERY, WRITE_EVERY = 0.5, 0.4
#: Without anything to follow, the job ends after so many seconds.
IDLE = 3.0


def follow_logs() -> None:
    """Follow all that is asked for until nothing is any more."""
    claim, followers = secrets.token_hex(16), dict[int, Follower]()
    idle_since = time.monotonic()
    try:
        while time.monotonic() < idle_since + IDLE:
            for pk in [pk for pk, follower in followers.items() if not follower.is_alive]:
                del followers[pk]
            for row in _taken(claim, IN_ALL - len(followers)):
                followers[row.pk] = Follower(row)
            wanted = {*LogFollow.objects.open().filter(asked_at__gt=Now() - PATIENCE).values_list("pk", flat=True)}
            for pk, follower in followers.items():
                if pk not in wanted:
                    follower.stop.set()
            LogFollow.objects.open().filter(pk__in=followers, claim=claim).update(beat_at=Now())
            sweep_follows(timezone.now())
            if followers:
                idle_since = time.monotonic()
            time.sleep(LOOK_EVERY)
    finally:
        for follower in followers.values():
            follower.stop.set()
        for follower in followers.values():
            follower.join()


def _taken(claim: str, most: int) -> list[LogFollow]:
    """Those that are asked for and that nobody follows, or nobody any more: they are followed under ``claim``."""
    free = Q(claim="") | Q(beat_at__lt=Now() - LOST)
    asked = LogFollow.objects.open().filter(free, asked_at__gt=Now() - PATIENCE)
    rows = asked.select_related("project", "server__credential", "server__jump_host")[: max(most, 0)]
    found = []
    for row in rows:
        if asked.filter(pk=row.pk).update(claim=claim, begun_at=None, beat_at=Now()):
            row.claim = claim
            found.append(row)
    return found


class Follower:
    """One log that is followed by a login of its own, in a thread."""

    def __init__(self, row: LogFollow) -> None:
        self.row = row
        self.stop = threading.Event()
        self._room = threading.Event()
        self._room.set()
        self._held: deque[dict[str, object]] = deque()
        self._adding = threading.Lock()
        self._budget, self._second = BYTES_A_SECOND, time.monotonic()
        mask = Masker(secrets_of(row.project))
        self._splitters = {stream: LineSplitter(mask) for stream in (STDOUT, STDERR)}
        self._thread = threading.Thread(target=self._run, name=f"follower of log {row.pk}", daemon=True)
        self._writer = threading.Thread(target=self._write, name=f"writer of log {row.pk}", daemon=True)
        self._done = threading.Event()
        self._thread.start()
        self._writer.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive() or self._writer.is_alive()

    def join(self) -> None:
        self._thread.join()
        self._writer.join()

    def _run(self) -> None:
        why, has_failed = "", False
        try:
            with explained(self.row.server):
                why = self._follow()
        except ShellError as error:
            why, has_failed = str(error), True
        except DatabaseError as error:
            logger.warning("the log %s is not followed any more: %s", self.row.pk, error)
        finally:
            for stream, splitter in self._splitters.items():
                self._add(stream, splitter.finish())
            self._done.set()
            self._writer.join()
            try:
                self.row.finish(storable(why), has_failed=has_failed)
            finally:
                connections.close_all()

    def _follow(self) -> str:
        """Follow it to its end; gives why that came, as a sentence."""
        row = self.row
        shell = connect(row.server)
        try:
            row.begin()
            text = following.follow(row.kind, row.name, Where(row.project.deploy_path, row.project.run_as), LONGEST)
            code = self._read(shell, text)
        except StoppedError:
            return _("Nobody was looking at it any more.")
        except ScriptTimeoutError:
            return _("It was followed for %d minutes.") % (LONGEST // 60)
        finally:
            shell.close()  # what runs there ends with its login
        return self._end(code)

    def _read(self, shell: SSHShell, text: str) -> int:
        deadline = time.monotonic() + LONGEST
        return shell.execute(text, self._take, deadline=deadline, stop=self.stop, room=self._room)

    def _end(self, code: int) -> str:
        """What a status says; raises where the log cannot be read."""
        row = self.row
        user = row.project.run_as or row.server.credential.username
        told = following.told(row.kind, row.name, code, user)
        if told is not None:
            raise NotReadyError(*told)
        return _("What follows it has ended.") if code else _("It has ended.")

    def _take(self, stream: str, data: bytes) -> None:
        """Lines of what came; more in a second than may be waits on the server."""
        now = time.monotonic()
        if now >= self._second + 1:
            self._budget, self._second = BYTES_A_SECOND, now
        self._budget -= len(data)
        self._add(stream, self._splitters[stream].feed(data))
        if self._budget <= 0:
            self._room.clear()

    def _add(self, stream: str, lines: list[str]) -> None:
        now = timezone.now()
        with self._adding:
            self._held.extend({"stream": stream, "content": line, "timestamp": now} for line in lines)

    def _write(self) -> None:
        """Write the lines that came, and keep the last of them alone."""
        try:
            is_over = False
            while not is_over:
                is_over = self._done.wait(WRITE_EVERY)
                with self._adding:
                    rows = [*self._held][-KEPT_LINES:]
                    self._held.clear()
                if time.monotonic() >= self._second + 1:
                    self._room.set()
                try:
                    if rows:
                        self._keep(rows)
                except DatabaseError as error:
                    logger.warning("lines of the log %s were not written: %s", self.row.pk, error)
        finally:
            connections.close_all()

    def _keep(self, rows: list[dict[str, object]]) -> None:
        if not LogFollow.objects.filter(pk=self.row.pk, claim=self.row.claim).exists():
            self.stop.set()  # it was deleted with its project or server, or another worker has it
            return
        FollowedLine.write(self.row, rows)
        lines = FollowedLine.objects.filter(follow=self.row)
        oldest = lines.order_by("-id").values_list("pk", flat=True)[KEPT_LINES : KEPT_LINES + 1].first()
        if oldest:
            lines.filter(id__lte=oldest).delete()
