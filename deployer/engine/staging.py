"""Putting a release on a server: whole and verified beside the live one, with as few bytes as will do."""

import contextlib
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from deployer.database import insist
from deployer.engine.commands import Commands
from deployer.engine.voice import Voice
from deployer.engine.work import Work
from deployer.models import Deployment, Release
from deployer.releases.archives import Archive, Packed, manifest_of, size_in_words
from projects.commands import config_files, wholeness
from projects.commands import release as release_commands
from projects.commands.manifest import Damage, Difference, Entry, Manifest, damage, difference
from projects.commands.release import PathState
from servers.errors import LinkLostError, NoSessionError, ShellError, TransferError
from servers.ssh.shell import PIECE, Output

T = TypeVar("T")
TRIES = 3
#: Files that a sentence names.
NAMED = 5
#: How often somebody who waits for another server looks whether that is still wanted, in seconds.
WAITING = 0.5
#: A log line about the progress of an upload is written this often, in seconds.
PROGRESS_EVERY = 3.0
#: One channel carries at most its window (2 MB) in a round trip: beyond these, several of them are faster.
FAR = 0.015
LARGE = 8 << 20
STRIPES = 8
#: A stripe is a multiple of this.
BLOCK = 1 << 20


class Staging:
    """One release on its way to one server: that of the deployment, or ``release``, which then has its own archive."""

    def __init__(self, work: Work, commands: Commands, voice: Voice, release: Release | None = None) -> None:
        self.work = work
        self.plan = work.plan
        self.release = release or work.release
        self._own_archive = Archive(release) if release else None
        self.commands = commands
        self.link = commands.link
        self.path = commands.deploy_path
        self.voice = voice
        self.nonce = ""
        self.broken: list[str] = []
        self.sent = 0

    @property
    def archive(self) -> Archive:
        return self._own_archive or self.work.archive

    def close(self) -> None:
        """Delete what an archive of its own needs on this machine."""
        if self._own_archive is not None:
            self._own_archive.close()

    def look(self) -> PathState:
        """Make the folders, remove what broken uploads have left, and see what is there."""
        errand = release_commands.Errand(
            deployment=self.work.deployment.pk,
            server=self.voice.target.server_id or 0,
            busy=insist(lambda: frozenset(Deployment.objects.active().values_list("pk", flat=True))),
            broken=tuple(self.broken),
            version=self.release.version,
            made_at=self._made_at if self.release.manifest else 0,
        )
        return release_commands.read_path_state(
            self.commands.capture(release_commands.prepare(self.path, errand), _("The folders could not be created"))
        )

    def bring(self, found: PathState) -> bool:
        """See to it that the whole release is on the server, which was ``found`` like this.

        Says whether its folder was made anew: then nothing is in it that steps had put there.
        """
        found, is_anew = self._after_another(found), False
        if self.release.version not in found.releases:
            self.put(found)
            return True
        if wrong := self._damage(found):
            is_anew = self._put_right(found, wrong)
        else:
            self.voice.say(_("%s is already on the server") % self.release.version)
        self.share()
        return is_anew

    def _after_another(self, found: PathState) -> PathState:
        """Where several servers share the folder, let the one that came first send the release, and look again."""
        other = self.work.stagings.get(found.stager)
        if other is None or found.stager in {0, self.voice.target.server_id}:
            return found
        self.voice.say(_("Another server of this deployment has the same folder: waiting for its upload"))
        until = time.monotonic() + self.plan.script_timeout
        while not other.wait(WAITING) and time.monotonic() < until:
            self.work.check()
        return self.look()

    def _withdraw(self, found: PathState) -> None:
        """Say in the folder no longer that this server is sent there first."""
        if found.stager == self.voice.target.server_id and self.link.is_alive:
            with contextlib.suppress(ShellError):
                self.link.capture(release_commands.withdraw(self.path, self.work.deployment.pk))

    def share(self) -> None:
        """Link the shared paths into the release that is on the server already, except where it has its own files."""
        if not self.plan.shared:
            return
        text = release_commands.link_shared(self.path, self.release.version, self.plan.shared, replace=False)
        for path in self.commands.capture(text, _("The shared paths could not be linked")).splitlines():
            self.voice.warn(
                _("%(path)s is in release %(version)s itself: it is not shared")
                % {"path": path, "version": self.release}
            )

    def put(self, findings: PathState) -> None:
        """Send the release and give it its name on the server; after a lost link it starts again."""
        begun = time.monotonic()
        try:
            base = self._in_spite_of_lost_links(self._send_release, findings)
        except ShellError:
            self._withdraw(findings)
            raise
        values = {
            "version": self.release.version,
            "size": size_in_words(self.sent),
            "seconds": max(time.monotonic() - begun, 0.001),
            "base": base,
        }
        if base:
            self.voice.say(
                _("Uploaded %(version)s as its difference from %(base)s: %(size)s in %(seconds).1f s") % values
            )
        else:
            self.voice.say(_("Uploaded %(version)s: %(size)s in %(seconds).1f s") % values)

    def _send_release(self, findings: PathState) -> str:
        """Send it one way or the other; gives the version that it was made out of, if any."""
        if self.release.version in findings.releases:
            return ""
        base = self._by_difference(findings)
        if not base:
            self._whole(findings.tools)
        return base

    def _in_spite_of_lost_links(self, do: Callable[[PathState], T], findings: PathState) -> T:
        for attempt in range(1, TRIES + 1):
            self._next_nonce()
            try:
                return do(findings)
            except LinkLostError as error:
                if attempt == TRIES:
                    raise
                self.voice.warn(_("%s Uploading again.") % error)
                self.broken.append(self.nonce)
                findings = self.look()
        raise AssertionError("the last attempt returns or raises")

    def _next_nonce(self) -> None:
        """A new name for what is on its way; it begins with the deployment's, for others to leave it alone."""
        self.nonce = f"{self.work.deployment.pk}-{secrets.token_hex(4)}"

    # --- what is there already -----------------------------------------------------------------------

    @property
    def _made_at(self) -> int:
        """When the archive was made: none of its files is newer than that."""
        return int(self.release.created_at.timestamp()) + 1

    def _damage(self, found: PathState) -> Damage | None:
        """What has become of the release on the server; nothing where it is what it was, or cannot be compared."""
        want = self.archive.manifest if found.shape else None
        if want is None:
            return None
        linked = want.with_shared(self.plan.shared, f"{self.path}/shared")
        if found.shape == linked.shape_digest() and not found.was_written_to:
            return None
        return self._compared(want.without([*self.plan.shared, *self.plan.files_in_release]))

    def _compared(self, want: Manifest) -> Damage | None:
        text = wholeness.compare(self.path, self.release.version, want.entries, self._made_at)
        answer = self.commands.capture(text, _("The release could not be compared"), files=len(want.entries))
        wrong = damage(answer, want)
        return wrong if wrong.paths else None

    def _put_right(self, found: PathState, wrong: Damage) -> bool:
        """Send again what is missing or different; says whether that was all of it.

        Raises `TransferError`, which names it, where that is impossible.
        """
        version, names, is_anew = self.release.version, _named(wrong), False
        try:
            self._in_spite_of_lost_links(self._mend, found)
        except _BeyondMendingError as error:
            if version == found.live:
                raise self._beyond_repair(names, str(error)) from error
            aside = wholeness.set_aside(self.path, version, self.nonce)
            self.commands.capture(aside, _("The release could not be replaced"))
            self.put(self.look())
            is_anew = True
        self.voice.warn(
            ngettext(
                "Release %(version)s was changed on %(server)s (%(count)d file): sent again: %(names)s",
                "Release %(version)s was changed on %(server)s (%(count)d files): sent again: %(names)s",
                len(wrong.paths),
            )
            % {"version": version, "server": self.voice.target, "count": len(wrong.paths), "names": names}
        )
        return is_anew

    def _mend(self, found: PathState) -> None:
        """Put the release right where it lies: it may be live, and applications write to their own."""
        wrong = self._damage(found)
        if wrong is None:
            return
        if wrong.send:
            packed = self._parts_again(wrong, "zstd" if "zstd" in found.tools else "gzip")
            self._unpack(packed, "")
        work, why = release_commands.work_name(self.release.version, self.nonce), ""
        try:
            text = wholeness.mend(self.path, self.release.version, work, wrong)
            self.commands.capture(text, _("The release could not be put right"))
        except TransferError as error:  # or a link was lost, and what had been done was done again
            why = error.why
        if left := self._compared(Manifest([*wrong.send, *wrong.modes])):
            raise _BeyondMendingError(_("The release could not be put right"), why or _named(left))

    def _parts_again(self, wrong: Damage, packing: str) -> Packed:
        """What must be sent again, out of the archive. Raises `TransferError`, which names it, without one."""
        if not self.release.archive:
            raise self._beyond_repair(_named(wrong), _("its archive is no longer stored"))
        try:
            return self.archive.parts(wrong.send, packing)
        except TransferError as error:
            raise self._beyond_repair(_named(wrong), str(error)) from error

    def _beyond_repair(self, names: str, why: str) -> TransferError:
        return TransferError(
            _("Release %(version)s was changed on %(server)s")
            % {"version": self.release.version, "server": self.voice.target},
            _("these are missing or different: %(names)s; it cannot be sent again: %(why)s")
            % {"names": names, "why": why},
            _("Deploy another release, or build this commit again (--rebuild)."),
        )

    # --- all of it -----------------------------------------------------------------------------------

    def _whole(self, tools: set[str]) -> None:
        packed = self.archive.whole(["zstd", "gzip"] if "zstd" in tools else ["gzip"])
        manifest = self.archive.manifest if "find" in tools else None
        check = (self._verify(manifest) if manifest else "") + self._finish()
        if self._unpack(packed, check).code:
            assert manifest is not None  # noqa: S101 (only the comparison with it ends so)
            self._explain(manifest)

    # --- what has changed ----------------------------------------------------------------------------

    def _by_difference(self, findings: PathState) -> str:
        """Build the release from one on the server; returns the version of that one, or empty if it cannot be done."""
        want, packing = self.archive.manifest, "zstd" if "zstd" in findings.tools else "gzip"
        base = self._base(findings)
        if want is None or base is None:
            return ""
        version, have = base
        change = difference(have, want)
        if not _worth_it(change, want):
            return ""
        delete = [*change.delete, *config_files.written_into(self.plan.files_in_release, have.entries)]
        top = [path for path in have.entries if "/" not in path]
        copy = release_commands.begin_from(self.path, version, self.release.version, self.nonce, top, delete)
        with ThreadPoolExecutor(1, "parts") as meanwhile:  # the server copies, and we prepare what it lacks
            meanwhile.submit(self.archive.parts, change.send, packing)
            made = self.link.capture(copy, timeout=self.plan.script_timeout)
        if made.code == 0 and self._apply(change.send, want, packing):
            return version
        if made.code == 0:
            self.voice.say(_("Release %s was changed on the server; comparing file by file") % version)
            # What a step has installed there may be many times the release: it is neither listed nor kept.
            own = release_commands.strip(self.path, self.release.version, self.nonce, have.entries)
            self.commands.capture(own, _("The files could not be deleted"))
            listing = release_commands.listing(self.path, self.release.version, self.nonce)
            change = difference(self._listed(listing, want), want)
            trim = release_commands.trim(self.path, self.release.version, self.nonce, change.delete)
            self.commands.capture(trim, _("The files could not be deleted"))
            if _worth_it(change, want) and self._apply(change.send, want, packing):
                return version
        self.voice.warn(_("Release cannot be built from %s on the server; sending it in full") % version)
        self._discard()
        return ""

    def _listed(self, listing: str, want: Manifest) -> Manifest:
        """What is in the work folder; there may be as much again as is ``want``ed, of an application's own."""
        what = _("The files could not be listed")
        return Manifest.from_listing(self.commands.capture(listing, what, files=len(want.entries)))

    def _base(self, findings: PathState) -> tuple[str, Manifest] | None:
        """The release on the server to start from, and what it should consist of: the live one, else the newest."""
        if "find" not in findings.tools:
            return None
        stored = Release.objects.deployable_to(self.work.deployment.project).exclude(manifest="")
        known = {release.version: release for release in insist(lambda: [*stored])}
        there = [version for version in sorted(findings.releases) if version in known]
        if not there:
            return None
        version = findings.live if findings.live in there else there[-1]
        manifest = manifest_of(known[version])
        if manifest is None:
            return None
        have = manifest.without(self.plan.files_in_release)
        return version, have.with_shared(self.plan.shared, f"{self.path}/shared")

    def _apply(self, entries: list[Entry], want: Manifest, packing: str) -> bool:
        """Unpack ``entries`` over the copy and finish it. False: the result still differs from the manifest."""
        check = self._verify(want, contents=True) + self._finish()
        if not entries:
            code = self.link.capture(check, timeout=self.plan.script_timeout).code
            return self._accept(Output(code, "", ""), (0, release_commands.DIFFERS)).code == 0
        return self._unpack(self.archive.parts(entries, packing), check).code == 0

    # --- the pieces ----------------------------------------------------------------------------------

    def _pour(self, packed: Packed) -> None:
        """Have the server unpack the archive while it arrives."""
        text = release_commands.pour(self.path, self.release.version, self.nonce, packed.stream.packing)
        self._accept(self._feed(text, _file(packed, 0, packed.size), self._progress(packed.size)), (0,))
        try:
            self.archive.check(packed)
        except ShellError:
            self._discard()
            raise

    def _send_in_stripes(self, packed: Packed) -> None:
        """Let the archive arrive in a file on the server, in several streams."""
        file = release_commands.part(self.path, self.release.version, self.nonce)
        tell = self._progress(packed.size)
        blocks = max(-(-packed.size // BLOCK), 1)
        share = -(-blocks // STRIPES)

        def send(first: int) -> None:
            answer = self._feed(
                release_commands.receive(file, BLOCK, first), _file(packed, first * BLOCK, share * BLOCK), tell
            )
            self.commands.accept(answer, _("The release could not be received"))

        left = deque(range(0, blocks, share))
        if self.link.most_at_once > 1:
            self._send_at_once(send, left)
        while left:
            send(left.popleft())

    def _send_at_once(self, send: Callable[[int], None], left: deque[int]) -> None:
        """Let streams side by side take from ``left`` until it is empty, as many of them as the server opens.

        Where it opens none at the moment, everything is left.
        """
        failed = threading.Event()

        def stream() -> None:
            while left and not failed.is_set():
                with suppress(IndexError):  # another stream has taken the last one
                    first = left.popleft()
                    try:
                        send(first)
                    except NoSessionError:  # MaxSessions: the streams that there are take this one, too
                        left.append(first)
                        return
                    except BaseException:
                        failed.set()
                        raise

        with ThreadPoolExecutor(STRIPES, "stripe") as threads:
            for done in [threads.submit(stream) for _stripe in range(min(self.link.most_at_once, STRIPES))]:
                done.result()

    def _unpack(self, packed: Packed, check: str) -> Output:
        """Send the archive, unpack it and run ``check``; status `DIFFERS`: the tree is not what it should be."""
        text = check
        if packed.size > LARGE and self.link.is_far(FAR):
            self._send_in_stripes(packed)
            text = release_commands.unpack(self.path, self.release.version, self.nonce, packed.stream) + check
        else:
            self._pour(packed)
        if not text:
            return Output(0, "", "")
        # Not as a short script: one of which nobody knows how it ended is not run again.
        return self._accept(self._feed(text, ()), (0, release_commands.DIFFERS))

    def _verify(self, manifest: Manifest, *, contents: bool = False) -> str:
        return release_commands.verify(
            self.path,
            self.release.version,
            self.nonce,
            manifest.shape_digest(),
            manifest.contents_digest() if contents else "",
        )

    def _finish(self) -> str:
        version, shared = self.release.version, self.plan.shared
        work = release_commands.work_name(version, self.nonce)
        links = release_commands.link_shared(self.path, work, shared, replace=True) if shared else ""
        return links + release_commands.finish(self.path, version, self.nonce)

    def _feed(self, text: str, pieces: Iterable[bytes], tell: Callable[[int], None] = lambda _sent: None) -> Output:
        return self.link.feed(text, pieces, timeout=self.plan.script_timeout, stop=self.work.stop, on_sent=tell)

    def _accept(self, answer: Output, fine: Container[int]) -> Output:
        self.commands.accept(answer, _("The release could not be unpacked"), fine)
        return answer

    def _explain(self, want: Manifest) -> None:
        """Name the entries that differ from those sent: the file system may not be able to hold them."""
        listing = release_commands.listing(self.path, self.release.version, self.nonce)
        have = self._listed(listing, want)
        self._discard()
        wrong = difference(have, want)
        names = [*(entry.path for entry in wrong.send), *wrong.delete][:5]
        raise TransferError(
            _("The release could not be unpacked"),
            _("these differ from what was sent: %s") % ", ".join(names),
            _("The file system must keep modes, links and upper and lower case apart."),
        )

    def _discard(self) -> None:
        self.link.capture(release_commands.discard(self.path, self.release.version, self.nonce))

    def _progress(self, size: int) -> "_Progress":
        return _Progress(self, size)


class _BeyondMendingError(TransferError):
    """A release that is on the server cannot be mended where it lies."""


class _Progress:
    """Counts the bytes sent, and reports them from time to time."""

    def __init__(self, staging: Staging, size: int) -> None:
        self._staging, self._size = staging, size
        self._begun = self._said = time.monotonic()
        self._sent = 0
        self._lock = threading.Lock()

    def __call__(self, sent: int) -> None:
        with self._lock:
            self._sent += sent
            self._staging.sent += sent
            now = time.monotonic()
            if now < self._said + PROGRESS_EVERY:
                return
            self._said = now
            words = _("%(sent).1f of %(size).1f MB (%(percent)d %%), %(rate).1f MB/s") % {
                "sent": self._sent / 1e6,
                "size": self._size / 1e6,
                "percent": 100 * self._sent // max(self._size, 1),
                "rate": self._sent / 1e6 / (now - self._begun),
            }
            self._staging.voice.report(words)


def _named(wrong: Damage) -> str:
    """The first of the files that are missing or different."""
    return ", ".join(wrong.paths[:NAMED]) + (", …" if len(wrong.paths) > NAMED else "")


def _worth_it(change: Difference, want: Manifest) -> bool:
    """Whether sending the difference spares at least half of the bytes."""
    return change.size <= want.size / 2


def _file(packed: Packed, start: int, size: int) -> Iterator[bytes]:
    """``size`` bytes of a packed archive from ``start`` on, in the pieces that travel best."""
    with packed.path.open("rb") as file:
        file.seek(start)
        while size > 0 and (piece := file.read(min(PIECE, size))):
            size -= len(piece)
            yield piece
