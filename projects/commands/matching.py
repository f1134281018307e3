"""Which processes are a service: those whose command has the words that were given, of the kind that was meant.

A name in a list of processes finds more than the application: who follows its log, who edits its file, the shell around
it, its namesake in another folder. The rules, in the order in which they decide:

1. The words are whole words of the command line, or of the title that the process has given itself.
2. Who only looks at a file (`tail`, an editor) is not meant, nor is the shell around an application or what keeps it
   running, unless there is nothing else.
3. Where one of them runs from the project's folder, only those that do are meant; of these, where one has the user
   that scripts run as, only those and their workers.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import islice

from projects.commands.kept import Kept
from projects.commands.processes import COMMAND_LIMIT, TICKS, Place, Process, Survey
from projects.commands.proof import Identity, base
from servers.sentences import storable

#: These follow, show or copy a file, or wait: what they name, they are not.
# fmt: off
ONLOOKERS = frozenset({
    "tail", "head", "less", "more", "most", "cat", "tac", "tee", "vi", "vim", "vimdiff", "nvim", "view", "nano",
    "pico", "emacs", "ed", "mcedit", "joe", "grep", "egrep", "fgrep", "rg", "ag", "sed", "awk", "gawk", "mawk",
    "watch", "man", "ssh", "scp", "sftp", "rsync", "git", "journalctl", "strace", "ltrace", "gdb", "lsof", "fuser",
    "inotifywait", "multitail", "lnav", "tar", "cp", "mv", "ls", "find", "du", "wc", "sort", "stat", "file", "diff",
    "md5sum", "sha256sum", "ps", "pgrep", "pkill", "kill", "top", "htop", "curl", "wget", "logger", "rotatelogs",
    "cronolog", "sleep", "date", "xargs", "gzip", "zstd",
})
# fmt: on
#: These start an application, wait for it or keep it running.
# fmt: off
STARTERS = frozenset({
    "sh", "bash", "dash", "ash", "ksh", "ksh93", "mksh", "zsh", "fish", "csh", "tcsh", "yash", "busybox", "sudo",
    "su", "runuser", "doas", "timeout", "flock", "script", "nohup", "setsid", "env", "nice", "ionice", "chroot",
    "unshare", "nsenter", "systemd-run", "start-stop-daemon", "daemonize", "tini", "dumb-init", "catatonit",
    "conmon", "containerd-shim", "containerd-shim-runc-v2", "supervisord", "circusd", "runsv", "runsvdir",
    "s6-supervise", "s6-svscan", "monit", "god", "pm2", "forever", "nodemon", "foreman", "honcho", "overmind",
    "screen", "tmux", "entr", "watchexec", "npm", "npx", "yarn", "pnpm", "uv", "uvx",
})
# fmt: on
#: One that has been running for so long, or was started so soon after what is around it, is no job of a moment.
STEADY_AFTER, SOON = 60 * TICKS, 10 * TICKS
#: How many processes of one look are kept, and how many that were not found by their words.
KEPT, NEAR = 100, 8
#: Words of one command at which a name may begin, and processes below which is looked for more of a service.
_BEGINS, _ROOTS = 32, 100
#: Characters of a command line that are kept.
COMMAND_KEPT = 300
#: A name that is derived from the project's is not looked for if it is shorter.
SHORTEST = 3

_LAUNCH = re.compile(r"\bmanage\.py deploy ")
_KEEPER_TITLE = re.compile(r"PM2 v\S+: God Daemon")
#: What may follow a word that is a program or a file: a version, an ending.
_TAIL = r"(?:[-_.]v?\d[\w.+-]{0,60})?(?:\.(?:jar|war|m?js|cjs|ts|py|rb|php|phar|dll|exe|pl|sh))?"
_A_FILE = re.compile(r"[\w./+~-]+")
_VERSIONED = frozenset({"python", "php", "php-fpm", "ruby", "perl", "node", "java", "lua", "postgres", "tomcat"})


class Fit(IntEnum):
    """How well a command has the words of a name."""

    NOT = 0
    #: One of them is only a folder on the way to a file, or a part of a word.
    LOOSE = 1
    WHOLE = 2


@dataclass(frozen=True)
class Name:
    """The words that a service is known by; ``derived`` from the project's name, they are compared in a plain form."""

    text: str
    derived: bool = False

    def fit(self, process: Process) -> tuple[Fit, int]:
        """How well it fits the process, and the number of the word of its command that it begins with."""
        if self.derived:
            plain = process.command.lower().replace("-", "")
            return (Fit.WHOLE if len(self.text) >= SHORTEST and self.text in plain else Fit.NOT), 1
        wanted = self.text.split()
        if not wanted or any(word.removeprefix("./") not in process.command for word in wanted):
            return Fit.NOT, 0
        words = process.command.split()
        begins = [at for at, word in enumerate(words) if _word_fit(wanted[0], word)]
        fits = [(_fit_from(wanted, words, at), -at) for at in begins[:_BEGINS]]
        fit, at = max(fits, default=(Fit.NOT, 0))
        return fit, -at

    def is_within(self, command: str) -> bool:
        """Whether the text is there, if not as whole words."""
        return len(self.text) >= SHORTEST and self.text in command

    def fits_title(self, process: Process) -> bool:
        """Whether it is the title of the program that the name begins with: `gunicorn: master [app:app]`."""
        program, _space, _rest = self.text.partition(" ")
        title, colon, _rest = process.command.partition(":")
        return bool(colon) and not self.derived and base(program) == title


def _fit_from(wanted: Sequence[str], words: Sequence[str], at: int) -> Fit:
    """How well the words from ``at`` on are those that are wanted; options that nobody named may stand in between."""
    whole = Fit.WHOLE
    for number, word in enumerate(wanted):
        while number and at < len(words) and words[at].startswith("-") and not _word_fit(word, words[at]):
            at += 1
        if at >= len(words) or not (fit := _word_fit(word, words[at])):
            return Fit.NOT
        whole = min(whole, fit)
        at += 1
    return whole


def _word_fit(wanted: str, word: str) -> Fit:
    """How well a word of a command is the one that is wanted: itself, or the file at the end of its path."""
    if wanted == word:
        return Fit.WHOLE
    word = word.rstrip(":")
    file = wanted.removeprefix("./")
    if not file:
        return Fit.NOT
    digits = r"[\d.]{0,20}" if base(file) in _VERSIONED else ""
    if re.search(rf"(?:^|/){re.escape(file)}{digits}{_TAIL}$", word):
        return Fit.WHOLE
    if _A_FILE.fullmatch(word):
        return Fit.LOOSE if f"/{file}/" in word else Fit.NOT
    # A value of an option, or a part of a title: -Dprofile=prod, [app:app].
    return Fit.LOOSE if re.search(rf"(?:(?<![\w-])|(?<=^-\w)){re.escape(wanted)}(?![\w-])", word) else Fit.NOT


@dataclass(frozen=True)
class Found:
    """What one look has found of a service.

    ``processes`` are all that could be meant; ``near``, where there are none, those that run from the project's folder
    or have the name as a part of a word. ``kept`` is what the keeper of the service says, where it has one.
    ``alive`` is every process of the server, ``user`` the one that scripts run as.
    """

    processes: tuple[Identity, ...] = ()
    near: tuple[Identity, ...] = ()
    kept: Kept | None = None
    alive: frozenset[tuple[int, int | None]] = frozenset()
    user: int | None = None

    @property
    def chosen(self) -> "Chosen":
        """Those of the processes that are meant, by this look alone."""
        return choose((), self.processes, self.user)

    def labelled(self, service: str) -> "Found":
        """The same, as of the service of this name."""
        return replace(self, processes=tuple(replace(it, service=service) for it in self.processes))

    def inside(self) -> "Found":
        """The same without what runs from another folder than the project's."""
        return replace(self, processes=tuple(it for it in self.processes if it.inside))

    def has(self, identity: Identity) -> bool:
        """Whether the process is there, whatever it is called by now."""
        return (identity.pid, identity.start) in self.alive


class Search:
    """One look through the processes of a server; ``live`` is the release that they should run from, if any.

    ``mask`` takes secrets out of the command lines of those that are found, before they are cut.
    """

    def __init__(self, survey: Survey, live: str, mask: Callable[[str], str] = str) -> None:
        self.survey = survey
        self.live = live
        self.mask = mask

    def by_name(self, name: Name) -> Found:
        """Everything that could be the service of this ``name``."""
        found: dict[int, Identity] = {}
        for process in self.survey.processes:
            if _LAUNCH.search(process.command):
                continue  # it names the project too: deployer may deploy to its own machine
            fit, at = name.fit(process)
            if not fit and not self._has_the_title(name, process):
                continue
            it = self.identity(process)
            if not (at and _is_onlooker(it)):
                found[process.pid] = replace(it, loose=fit == Fit.LOOSE or None)
        if not found:
            return self._found((), (*islice(self._near(name), NEAR),))
        return self._found((*self._with_those_below(found),))

    def by_keeper(self, kept: Kept) -> Found:
        """Every process of what is kept: those of its control group, else those that its keeper names and all below.

        Those that the keeper names come first. It is known by its run alone where it has no process, or where this
        login sees no other user's.
        """
        named = [process for process in self.survey.processes if process.pid in kept.main]
        below = (process for first in named for process in self.survey.below(first))
        group = (
            process
            for process in self.survey.processes
            if kept.group and f"{process.group}/".startswith(f"{kept.group}/")
        )
        members = {process.pid: process for process in (*named, *(group if kept.group else below))}
        found = tuple(self._member(self.identity(process), kept.run) for process in members.values())
        if not found and kept.is_up and (kept.run or self._hides_others()):
            run = kept.run or f"{self.survey.boot} {kept.main}"
            found = (Identity(0, kept.since, kept.name, invocation=run),)
        return replace(self._found(found), kept=kept)

    def _hides_others(self) -> bool:
        """Whether only the login's own processes are shown (hidepid)."""
        return all(process.pid != 1 for process in self.survey.processes)

    def _member(self, it: Identity, invocation: str) -> Identity:
        """A process of what is kept: what only waits there, or follows a log, is not what it is for."""
        return replace(it, invocation=invocation or None, around=it.around or _is_onlooker(it) or None)

    def _found(self, processes: tuple[Identity, ...], near: tuple[Identity, ...] = ()) -> Found:
        alive = frozenset((process.pid, process.start) for process in self.survey.processes)
        words = {process.pid: process.words for process in self.survey.processes}

        def shown(service: Iterable[Identity]) -> tuple[Identity, ...]:
            return tuple(replace(it, command=self._shown(it, words.get(it.pid, ""))) for it in service)

        return Found(shown(processes[:KEPT]), shown(near), None, alive, self.survey.user)

    def _shown(self, it: Identity, words: str) -> str:
        """Its command line as it is kept; the last word of one that was cut may be half a secret."""
        text = words or it.command
        if len(text) >= COMMAND_LIMIT:
            text = text.rpartition("\0" if "\0" in text else " ")[0]
        return storable(self.mask(text).replace("\0", " "))[:COMMAND_KEPT]

    def identity(self, process: Process) -> Identity:
        """The process as it is recorded."""
        place = self.survey.place(process.pid)
        program, release = _program(process, place), self.survey.release_of(place.folder)
        return Identity(
            pid=process.pid,
            since=self.survey.since(process.start),
            command=storable(process.command),
            parent=process.parent,
            start=process.start,
            boot=self.survey.boot,
            folder=storable(place.folder),
            old=storable(release) if self.live and release != self.live else "",
            program=storable(program),
            user=place.user,
            image=process.image or None,
            around=_is_around(process, program) or None,
            inside=self._is_inside(process, place) or None,
        )

    def _has_the_title(self, name: Name, process: Process) -> bool:
        """Whether it is one of the project's own that has by now the title of the program that was named."""
        return name.fits_title(process) and self._is_inside(process, self.survey.place(process.pid))

    def _with_those_below(self, found: Mapping[int, Identity]) -> Iterable[Identity]:
        """Those that were found, and what belongs to them: an application below its shell, workers of its own kind."""
        everything = dict(found)
        known: dict[int, Identity] = {}
        roots = [process for process in self.survey.processes if process.pid in found]
        for process in roots[:_ROOTS]:
            root = found[process.pid]
            for child in self.survey.below(process):
                if child.pid in everything:
                    continue
                it = known.setdefault(child.pid, known.get(child.pid) or self.identity(child))
                if it.around or _is_onlooker(it):
                    continue
                if self._is_steady(child, process) if root.around else it.stem == root.stem:
                    everything[child.pid] = replace(it, inside=it.inside or root.inside, loose=root.loose)
        return everything.values()

    def _is_steady(self, child: Process, around: Process) -> bool:
        return self.survey.now - child.start >= STEADY_AFTER or child.start - around.start <= SOON

    def _near(self, name: Name) -> Iterator[Identity]:
        """Those that run from the project's folder, or have the name as a part of a word."""
        for process in self.survey.processes:
            is_within = name.is_within(storable(process.command))
            if not (is_within or self._is_inside(process, self.survey.place(process.pid))):
                continue
            it = self.identity(process)
            onlooker = _is_onlooker(it) and not it.is_titled
            if not (onlooker or it.around or _LAUNCH.search(it.command)):
                yield it

    def _is_inside(self, process: Process, place: Place) -> bool:
        """Whether it runs from the folder of the project: it works there, or its program or its first file is there."""
        return any(map(self.survey.is_below, (place.folder, place.program, *process.command.split()[:4])))


def _program(process: Process, place: Place) -> str:
    """The name of its program: that of the file, where the login may see it, else the first word of its command."""
    return base(place.program) or base(process.command.split(maxsplit=1)[0])


def _is_onlooker(it: Identity) -> bool:
    """Whether it only looks at what it names; Debian calls an editor `vim.basic`, BusyBox every program `busybox`."""
    names = {it.program, it.program.partition(".")[0], base(it.command.split(maxsplit=1)[0])}
    return not ONLOOKERS.isdisjoint(names)


def _is_around(process: Process, program: str) -> bool:
    """Whether it is what starts an application or keeps it running, not the application."""
    first = [base(word) for word in process.command.split()[:2]]
    return not STARTERS.isdisjoint({program, *first}) or _KEEPER_TITLE.match(process.command) is not None


# --- which of them are meant --------------------------------------------------------------------------


@dataclass(frozen=True)
class Chosen:
    """Those that are meant, before a restart and after it; ``others`` could have been, and are left alone."""

    before: tuple[Identity, ...]
    after: tuple[Identity, ...]
    others: tuple[Identity, ...] = ()


def choose(before: Sequence[Identity], after: Sequence[Identity], user: int | None = None) -> Chosen:
    """Those that are meant, by the same rules on both sides; ``user`` is the one that scripts run as."""
    kept = [*before, *after]
    for rule in (_is_no_shell, _has_whole_words, _is_of_the_project):
        kept = [it for it in kept if rule(it)] or kept
    kept = _with_workers([it for it in kept if user is not None and it.user == user], kept) or kept
    keys = {it.key for it in kept}
    was = tuple(it for it in before if it.key in keys)
    users, programs = {it.user for it in was}, {it.stem for it in was}
    now = [it for it in after if it.key in keys]
    now = _rather(now, was, lambda it: it.user in users)
    now = _rather(now, was, lambda it: it.stem in programs)
    meant = {it.key for it in (*was, *now)}
    others = {it.key: it for it in after if it.key not in meant and not it.around}
    return Chosen(was, tuple(now), tuple(others.values()))


def _is_no_shell(it: Identity) -> bool:
    return not it.around


def _has_whole_words(it: Identity) -> bool:
    return not it.loose


def _is_of_the_project(it: Identity) -> bool:
    return bool(it.inside)


def _with_workers(own: Sequence[Identity], kept: Sequence[Identity]) -> list[Identity]:
    """A user's ``own`` processes, and of the others those that they have started: workers may have another user."""
    pids: set[int] = set()
    more = {it.pid for it in own}
    while more:
        pids |= more
        more = {it.pid for it in kept if it.parent in pids} - pids
    return [it for it in kept if it.pid in pids]


def _rather(now: list[Identity], was: Sequence[Identity], like: Callable[[Identity], bool]) -> list[Identity]:
    """Those that are ``like`` the ones before, and the old ones; all of them where no new one is."""
    old = {it.key for it in was}
    return [it for it in now if it.key in old or like(it)] if any(it.key not in old and like(it) for it in now) else now
