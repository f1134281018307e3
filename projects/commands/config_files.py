"""Config files on a server as shell text: what is there, how they are replaced, and how they are put back.

Each file is made beside the one that it replaces, as ``.deployer-new.NAME``: readable by nobody else until it has its
mode and owner, on the disk whole, and checked. Only once that is true of all of them, the ones that are there are kept
as ``.deployer/KEY.was.NAME`` (a folder that its owner alone can enter; ``KEY.none.NAME`` where there was none), and
each is replaced by one rename. So a reader finds the old one or the new one, and whoever is killed on the way has lost
neither. KEY is the name of the run on that server: the old ones are found by it, and nothing is replaced once that run
has begun or its gate is closed.
"""

import base64
import hashlib
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from shlex import quote

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from projects.commands.health import command
from projects.commands.service import in_shell
from servers.errors import NonsenseError
from servers.shell import as_user
from servers.supervised.script import only_before, private_folder

#: Bytes of a file.
LARGEST = 256 << 10
#: Seconds that a check may take.
CHECKING = 60
#: Stands before the states of files in a longer answer.
MARK = "CONFIG FILES"
#: Stands in a check for the file that is checked.
FILE = "{file}"
#: Bytes of what a check said that are told.
_SAID = 2000
#: Characters of an answer about all files.
_LONGEST = 1 << 20
#: Exit statuses of `write`.
TAKEN_OVER = 7
NO_FOLDER, NOT_WRITTEN, NOT_WHOLE, NOT_OWNED, REFUSED, CHANGED, LEADS_OUT, NOT_KEPT, NOT_REPLACED = range(41, 50)

_REASONS = {
    TAKEN_OVER: (
        gettext_lazy("another worker has taken over this deployment"),
        gettext_lazy("See the entry of the other worker for this server."),
    ),
    NO_FOLDER: (
        gettext_lazy("its folder does not exist, or this login cannot enter it"),
        gettext_lazy("Create the folder, or correct the path."),
    ),
    NOT_WRITTEN: (
        gettext_lazy("this login cannot write to its folder, or the disk is full"),
        gettext_lazy("Make the user that writes it the owner of the folder, or free some space."),
    ),
    NOT_WHOLE: (gettext_lazy("it did not arrive whole"), gettext_lazy("Check the free space of the disk.")),
    NOT_OWNED: (
        gettext_lazy("its owner or mode could not be set"),
        gettext_lazy("Only root can give a file away: correct its owner, or let the scripts run as root."),
    ),
    REFUSED: (gettext_lazy("its check refused the new content"), gettext_lazy("Correct it.")),
    CHANGED: (
        gettext_lazy("it was changed on the server while the deployment was about to replace it"),
        gettext_lazy("Launch again."),
    ),
    LEADS_OUT: (gettext_lazy("its folder leads out of the release"), gettext_lazy("Give its absolute path.")),
    NOT_KEPT: (
        gettext_lazy("what is there could not be kept"),
        gettext_lazy("Check the rights of the file and of its folder."),
    ),
    NOT_REPLACED: (
        gettext_lazy("it could not be replaced"),
        gettext_lazy("Check the rights of the file and of its folder."),
    ),
}
_HASHED = re.compile(r"\\?([0-9a-f]{64}) [ *]")
_STAT = re.compile(r"STAT ([0-7]{1,5}) (\d{1,10}) (\d{1,10}) (\S{1,64}) (\S{1,64})")
_LINK = re.compile(r"LINK (\d{1,4}) (/[^\x00-\x1f\x7f]{1,4000})")
_KIND = re.compile(r"FILE (\d{1,4}) ([a-z]{1,10})")


class Kind(Enum):
    """What is at a path of a server."""

    FILE = "file"
    NONE = "none"
    #: There is a file, and the user that asks cannot read it.
    HIDDEN = "hidden"
    #: A folder, a device or a link to nothing.
    OTHER = "other"
    #: The folder that it would lie in is not there.
    NOWHERE = "nowhere"


@dataclass(frozen=True)
class State:
    """What is at a path: the SHA-256 of its bytes, its nine bits of mode, and its owner by number and by name.

    ``real`` is the file that it is a link to, where it is one.
    """

    kind: Kind = Kind.NONE
    sha256: str = ""
    mode: int = 0
    uid: str = ""
    gid: str = ""
    user: str = ""
    group: str = ""
    real: str = ""

    def has(self, mode: str, owner: str) -> bool:
        """Whether its mode and its owner are these; an owner that is not named may be anybody."""
        user, _colon, group = owner.partition(":")
        return (
            self.mode == int(mode, 8)
            and (not user or user in {self.user, self.uid})
            and (not group or group in {self.group, self.gid})
        )


@dataclass(frozen=True)
class File:
    """A file as it is to be on a server: an absolute ``path``, or one that begins with ``~/`` while it is asked for.

    ``before`` is the SHA-256 of what was seen there, empty where there was none; ``owner_before`` its owner, who stays
    where no ``owner`` is named. ``release`` is the folder that it must lie in, if it is part of a release: folders in
    there are made. ``keeps``: what is there now may be needed again.
    """

    path: str
    content: str = ""
    mode: str = "0640"
    owner: str = ""
    check: str = ""
    run_as: str = ""
    before: str = ""
    owner_before: str = ""
    release: str = ""
    keeps: bool = True

    @property
    def data(self) -> bytes:
        """The bytes of its content."""
        return self.content.encode(errors="surrogatepass")

    @property
    def sha256(self) -> str:
        """That of its content."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def folder(self) -> str:
        return self.path.rpartition("/")[0] or "/"

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def new(self) -> str:
        """Its name until it replaces the other one."""
        return f".deployer-new.{self.name}"


#: Prints the SHA-256 of standard input.
_SUM = """if command -v sha256sum >/dev/null 2>&1; then sum() { sha256sum | cut -c1-64; }
else sum() { openssl dgst -sha256 -r | cut -c1-64; }
fi
"""

_LOOK = """look_at_files() {
n=$1; shift
for file do
shift
n=$((n+1))
if [ -f "$file" ] && [ ! -r "$file" ]; then echo FILE $n hidden
elif [ -f "$file" ]; then
echo FILE $n file
[ ! -L "$file" ] || printf 'LINK %s %s\\n' $n "$(readlink -f -- "$file")"
set -- "$@" "$file"
elif [ -e "$file" ] || [ -L "$file" ]; then echo FILE $n other
elif [ -d "${file%/*}/" ]; then echo FILE $n none
else echo FILE $n nowhere
fi
done
[ $# -gt 0 ] || return 0
if command -v sha256sum >/dev/null 2>&1; then sha256sum -- "$@"; else openssl dgst -sha256 -r -- "$@"; fi
stat -Lc 'STAT %a %u %g %U %G' -- "$@"
}
"""


def look(files: Iterable[tuple[str, str]]) -> str:
    """Print what is at these paths, each with the user that asks; two processes for all of them of one user.

    A path may begin with ``~/``. The answer is for `read`, which needs the paths in the same order.
    """
    text, asked = "", 0
    for user, some in groupby(files, key=lambda file: file[1]):
        paths = [path for path, _user in some]
        call = f"{_LOOK}look_at_files {asked} {' '.join(map(in_shell, paths))}"
        text += as_user(user, call) if user else call
        text += " 2>/dev/null </dev/null\n"
        asked += len(paths)
    return text


def read(text: str, number: int) -> list[State]:
    """The states of so many paths, in the order in which `look` asked for them. Raises `NonsenseError`.

    One of which nothing is said is hidden: the login may not become the user that asks.
    """
    lines = text.split("\n") if len(text) <= _LONGEST else []
    kinds = {int(found[1]): found[2] for found in map(_KIND.fullmatch, lines) if found}
    if not {kind.value for kind in Kind}.issuperset(kinds.values()):
        raise _nonsense()
    hashes = [found[1] for found in map(_HASHED.match, lines) if found]
    stats = [found.groups() for found in map(_STAT.fullmatch, lines) if found]
    links = {int(found[1]): found[2] for found in map(_LINK.fullmatch, lines) if found}
    files = [n for n, kind in sorted(kinds.items()) if kind == Kind.FILE.value]
    if not len(files) == len(hashes) == len(stats):
        raise _nonsense()
    found = {
        n: State(Kind.FILE, sha256, int(mode, 8) & 0o777, uid, gid, user, group, links.get(n, ""))
        for n, sha256, (mode, uid, gid, user, group) in zip(files, hashes, stats, strict=True)
    }
    return [found.get(n) or State(Kind(kinds.get(n, Kind.HIDDEN.value))) for n in range(1, number + 1)]


def _nonsense() -> NonsenseError:
    return NonsenseError(
        _("The server does not say what its config files are"),
        _("they changed while they were looked at, or the server has neither sha256sum nor openssl"),
        _("Check the server."),
    )


def contents(files: Iterable[tuple[str, str]]) -> str:
    """Print what these files hold, each with the user that reads it, as `read_contents` takes it."""
    text = ""
    for number, (path, user) in enumerate(files, start=1):
        it = in_shell(path)
        read = f"[ ! -f {it} ] || {{ echo CONTENT {number}; head -c {LARGEST + 1} -- {it} | base64; }}"
        text += f"{as_user(user, read)} 2>/dev/null </dev/null || :\n"
    return text


def limit_of_contents(number: int) -> int:
    """Bytes that the answer about so many files may have."""
    return number * (LARGEST * 3 // 2 + 1000) + 1000


def read_contents(text: str, number: int) -> list[str | None]:
    """What so many files hold; nothing for one that is not there, cannot be read, is too large or is not text."""
    found: dict[int, list[str]] = {}
    lines: list[str] = []
    for line in text.split("\n"):
        if begin := re.fullmatch(r"CONTENT (\d{1,4})", line):
            lines = found.setdefault(int(begin[1]), [])
        else:
            lines.append(line)
    return [_decoded("".join(found[n])) if n in found else None for n in range(1, number + 1)]


def _decoded(text: str) -> str | None:
    try:
        data = base64.b64decode(text, validate=True)
        return data.decode() if len(data) <= LARGEST else None
    except ValueError:
        return None


# --- replacing --------------------------------------------------------------------------------------


def write(key: str, files: Sequence[File], kept: str = "") -> str:
    """Make, check and replace ``files``, all or none of them, if the run ``key`` has not begun.

    What was there is kept under ``kept``, or else under the key.

    Nothing is replaced unless everything is as it was seen before (or as it is to be: a script that is run twice does
    no harm). The last line of the error output is ``AT n`` for the file, from 1, that stopped it; what its check said
    stands before it.
    """
    numbered = list(enumerate(files, start=1))
    users = sorted({file.run_as for file in files})
    clean = "\n".join(_as(user, _each(_CLEAN, _of(user, numbered))) for user in users)
    make = "".join(_made(number, file) for number, file in numbered)
    check = "".join(_checked(number, file) for number, file in numbered if file.check)
    keep = "".join(_or_end(_as(user, _SUM + _KEEP + _kept(kept or key, _of(user, numbered)))) for user in users)
    replace = "".join(_or_end(_as(user, _each(_REPLACE, _of(user, numbered)))) for user in users)
    return f"""{_one_at_a_time()}left=yes
clean() {{
[ -z "$left" ] || {{
{clean}
}} 2>/dev/null
}}
trap clean EXIT
{_SUM}{make}{check}{only_before(key)}{keep}{replace}left=
"""


def _one_at_a_time() -> str:
    """Wait for whoever of this login still replaces files: also a script whose link was lost."""
    return f"""mask=$(umask)
{private_folder()}exec 8>>"$base/files.lock"
flock 8 2>/dev/null
umask "$mask"
"""


def why_not(code: int, stderr: str, files: Sequence[File]) -> tuple[File | None, str, str, str]:
    """What an exit status of `write` means: the file that stopped it, why, what was said about it, and what to do."""
    reason, remedy = _REASONS.get(code, ("", ""))
    lines = stderr.strip().splitlines()
    at = re.fullmatch(r"AT (\d{1,4})", lines[-1]) if lines else None
    if at is not None:
        lines.pop()
    file = files[int(at[1]) - 1] if at is not None and 0 < int(at[1]) <= len(files) else None
    said = "\n".join(lines)[-_SAID:].strip()
    return file, str(reason) or _("status %d") % code, said, str(remedy)


def _of(user: str, files: Iterable[tuple[int, File]]) -> list[tuple[int, File]]:
    return [(number, file) for number, file in files if file.run_as == user]


def _as(user: str, text: str) -> str:
    return as_user(user, text) if user else f"(\n{text})"


def _or_end(text: str) -> str:
    return f"{text} </dev/null || exit\n"


def _fail(code: int, number: int) -> str:
    return f"{{ echo AT {number} >&2; exit {code}; }}"


def _each(line: str, files: Iterable[tuple[int, File]]) -> str:
    return "".join(
        line.format(
            folder=quote(file.folder),
            new=quote(file.new),
            name=quote(file.name),
            gone=_fail(NO_FOLDER, number),
            failed=_fail(NOT_REPLACED, number),
        )
        for number, file in files
    )


_CLEAN = "cd -P -- {folder} && rm -f -- {new}\n"
_REPLACE = """cd -P -- {folder} || {gone}
mv -fT -- {new} {name} || {failed}
sync -- . 2>/dev/null || sync
"""


def _made(number: int, file: File) -> str:
    """Make the new file: on the disk whole, then its owner and mode, which nobody else could read it before."""
    owner = file.owner or file.owner_before
    give = f"chown -- {quote(owner)} {quote(file.new)} || {_fail(NOT_OWNED, number)}\n" if owner else ""
    text = f"""{_SUM}{_entering(number, file)}umask 077
[ ! -d {quote(file.name)} ] || {_fail(NOT_WRITTEN, number)}
rm -f -- {quote(file.new)} && set -C && : >{quote(file.new)} && set +C || {_fail(NOT_WRITTEN, number)}
dd of={quote(file.new)} bs=65536 conv=notrunc,fsync status=none || {_fail(NOT_WRITTEN, number)}
[ "$(sum <{quote(file.new)})" = {file.sha256} ] || {_fail(NOT_WHOLE, number)}
{give}chmod {file.mode} -- {quote(file.new)} || {_fail(NOT_OWNED, number)}
"""
    # The content comes by standard input: no list of processes shows it.
    return f"printf %s {quote(file.content)} | {_as(file.run_as, text)} || exit\n"


def _entering(number: int, file: File) -> str:
    """Go to the folder of the file; in a release, make it, and see that it is in there."""
    if not file.release:
        return f"cd -P -- {quote(file.folder)} || {_fail(NO_FOLDER, number)}\n"
    return f"""cd -P -- {quote(file.release)} || {_fail(NO_FOLDER, number)}
root=$PWD
umask 022
[ -d {quote(file.folder)} ] || mkdir -p -- {quote(file.folder)} || {_fail(NO_FOLDER, number)}
cd -P -- {quote(file.folder)} || {_fail(NO_FOLDER, number)}
case $PWD/ in "$root"/*) ;; *) {_fail(LEADS_OUT, number)} ;; esac
"""


def _checked(number: int, file: File) -> str:
    """Run the check on the new file, in the folder that the old one lies in; in a release, in that."""
    new = f"{file.folder.rstrip('/')}/{file.new}"
    wanted = file.check.replace(FILE, quote(new))
    text = f"cd -- {quote(file.release or file.folder)} || exit\n{command(wanted, CHECKING)}"
    return f"""check() {{
{_as(file.run_as, text)}
}}
said=$(check 8>&- </dev/null) || {{
printf '%s\\n' "$said" | tail -c {_SAID} >&2
echo AT {number} >&2
exit {REFUSED}
}}
"""


_KEEP = """keep() {
cd -P -- "$1" || return
[ ! -L "$2" ] || [ "$6" ] || return 46
now=
if [ -e "$2" ]; then now=$(sum <"$2") && [ "$now" ] || return 48; fi
[ "$now" = "$3" ] || [ "$now" = "$4" ] || return 46
[ "$5" ] || return 0
[ -d .deployer ] || mkdir -m 700 .deployer || return 48
for old in .deployer/*.was."$2" .deployer/*.none."$2"; do
case $old in .deployer/"$5".*) ;; *) [ ! -e "$old" ] && [ ! -L "$old" ] || rm -f -- "$old" ;; esac
done
was=.deployer/$5.was.$2
[ ! -e "$was" ] && [ ! -L "$was" ] && [ ! -e ".deployer/$5.none.$2" ] || return 0
if [ ! -e "$2" ] && [ ! -L "$2" ]; then : >".deployer/$5.none.$2" || return 48
elif ! ln -T -- "$2" "$was" 2>/dev/null && [ ! -e "$was" ]; then
cp -dp -- "$2" "$was.part" && { sync -- "$was.part" 2>/dev/null || sync; } && mv -nT -- "$was.part" "$was"
code=$?
rm -f -- "$was.part"
[ $code = 0 ] || return 48
fi
sync -- .deployer 2>/dev/null || sync
}
"""


def _kept(key: str, files: Iterable[tuple[int, File]]) -> str:
    return "".join(
        f"keep {quote(file.folder)} {quote(file.name)} {quote(file.before)} {file.sha256} "
        f"{quote(key if file.keeps else '')} {quote('release' if file.release else '')} "
        f"|| {{ code=$?; echo AT {number} >&2; [ $code -gt 40 ] || code={NO_FOLDER}; exit $code; }}\n"
        for number, file in files
    )


# --- the way back -----------------------------------------------------------------------------------

#: Exit status of `put_back` where one of them could not be.
NOT_BACK = 40

_BACK = """back() {
cd -P -- "$1" 2>/dev/null || return 0
was=.deployer/$5.was.$2 none=.deployer/$5.none.$2
rm -f -- ".deployer-new.$2" "$was.part"
now=
[ ! -e "$2" ] || now=$(sum <"$2")
if [ -e "$was" ] || [ -L "$was" ]; then
if [ "$was" -ef "$2" ]; then rm -f -- "$was"
elif [ "$now" = "$3" ]; then mv -fT -- "$was" "$2" || return; echo "BACK $4"
else echo "LEFT $4"
fi
elif [ -e "$none" ]; then
if [ "$now" = "$3" ]; then rm -f -- "$2" || return; echo "BACK $4"
elif [ "$now" ]; then echo "LEFT $4"
fi
rm -f -- "$none" || return
else
rmdir .deployer 2>/dev/null
return 0
fi
rmdir .deployer 2>/dev/null
sync -- . 2>/dev/null || sync
}
"""


def put_back(kept: str, files: Sequence[tuple[str, str, str]], *, waits: bool = True) -> str:
    """Put back what was kept under ``kept`` of these files: the path, the user that wrote it, and what was written.

    It ``waits`` for a `write` that may still go on, unless the gate of that run is closed: then that replaces nothing.

    A file that is neither what was there nor what was written was changed by somebody else since: it is left, and so is
    what was kept of it. Prints ``BACK n`` or ``LEFT n`` for each, from 1. Done twice, it does no harm.
    """
    numbered = [(n, path.rpartition("/"), user, sha256) for n, (path, user, sha256) in enumerate(files, start=1)]
    text = f"{_one_at_a_time() if waits else ''}code=0\n"
    for wanted in sorted({user for _path, user, _sha256 in files}):
        calls = "".join(
            f"back {quote(folder or '/')} {quote(name)} {sha256} {number} {quote(kept)} || exit {NOT_BACK}\n"
            for number, (folder, _slash, name), user, sha256 in numbered
            if user == wanted
        )
        text += f"{_as(wanted, _SUM + _BACK + calls)} </dev/null || code={NOT_BACK}\n"
    return text + "[ $code = 0 ] || exit $code\n"


def what_was_put_back(text: str, paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """The paths that `put_back` has put back, and those that it left because somebody else has changed them."""
    rows = list(re.findall(r"^(BACK|LEFT) (\d{1,4})$", text, re.MULTILINE))
    named: Mapping[str, list[str]] = {
        word: [paths[int(n) - 1] for it, n in rows if it == word and 0 < int(n) <= len(paths)]
        for word in ("BACK", "LEFT")
    }
    return named["BACK"], named["LEFT"]


def written_into(paths: Iterable[str], known: Container[str]) -> list[str]:
    """What config files with these relative paths add to a release whose own entries are ``known``.

    The files, the folders that were made for them, and those in which others are kept.
    """
    found: dict[str, None] = {}
    for path in paths:
        parts = path.split("/")
        folders = ["/".join(parts[:n]) for n in range(1, len(parts))]
        made = next((folder for folder in folders if folder not in known), "")
        for name in [made] if made else [path, "/".join([*parts[:-1], ".deployer"])]:
            found.setdefault(name)
    return list(found)
