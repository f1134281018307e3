"""Shell text that packs a release here and stages, switches and prunes it on a server.

::

    {deploy_path}/releases/VERSION   one folder a release: it has the name once it is whole, and loses it before it goes
    {deploy_path}/shared             kept between releases
    {deploy_path}/current            a symbolic link to the live release, replaced by one rename
"""

import re
from collections.abc import Container, Iterable
from shlex import quote
from typing import NamedTuple

from django.utils.translation import gettext_lazy as _

from projects.commands.wholeness import END_OF_NAMES, HASHES, inspect
from servers.sentences import told
from servers.shell import as_user

#: Exit status of a switch whose deployment another worker has taken over.
TAKEN_OVER = 7
#: Exit status of `verify` where a tree is not as its manifest says.
DIFFERS = 9
#: Exit status of `link_shared` for a file that is neither in shared/ nor in the release.
NOT_SHARED = 10
#: 512-byte blocks that GNU tar reads at a time; its own 20 cost a third of the time of a large file.
RECORD_BLOCKS = 512
#: Sets ``large`` to what lets tar read so many at once.
_SIZE_OF_RECORDS = f"case $(tar --version 2>/dev/null) in *GNU*) large=-b{RECORD_BLOCKS} ;; *) large= ;; esac"
#: Characters of a file's name.
_NAME = 255
_NUMBER = re.compile(r"\d{1,18}", re.ASCII)
_INODE = re.compile(r"\d{1,20}:\d{1,20}", re.ASCII)
#: What the exit statuses below mean: (why, what to do), with the deploy path as ``path`` and the last line that was
#: printed about it as ``named``.
REASONS = {
    3: (
        _("%(path)s/current is a real folder, not a link"),
        _("Move it away (for example to %(path)s/releases/first) and link current to it, then deploy again."),
    ),
    4: (_("the release is not in %(path)s/releases"), _("Deploy it again.")),
    5: (
        _("this login cannot create %(path)s or write to it"),
        _("Create the folder and make the login's user its owner."),
    ),
    6: (
        _("the data received differs from the data sent"),
        _("Check the free space of the disk, then deploy again."),
    ),
    NOT_SHARED: (
        _("%(named)s is neither in %(path)s/shared nor in the release"),
        _("Create %(path)s/shared/%(named)s, or end it with / in shared_paths to have a folder created."),
    ),
    TAKEN_OVER: (
        _("another worker has taken over this deployment"),
        _("See the entry of the other worker for this server."),
    ),
}


#: Exit statuses of `pack`.
OUTSIDE, NO_FOLDER = 21, 22


def pack(tree: str, output: str, archive: str) -> str:
    """Pack the folder ``output`` of ``tree`` into ``archive``, a plain tar: names sorted, owners left out.

    Hard links become files of their own. What nobody but the owner should write is so, and the owner can read
    everything and delete it again. The repository of the tree itself (.git) stays out. Exit `OUTSIDE`: a link leads
    out of the tree; `NO_FOLDER`: there is no such folder.
    """
    return f"""tree=$(realpath -e -- {quote(tree)}) || exit {NO_FOLDER}
folder=$(realpath -m -- "$tree"/{quote(output)}) || exit {NO_FOLDER}
case $folder/ in "$tree"/*) ;; *) exit {OUTSIDE} ;; esac
[ -d "$folder" ] || exit {NO_FOLDER}
exec tar --sort=name --owner=0 --group=0 --numeric-owner --hard-dereference --mode=u+rwX,go-w \\
--anchored --exclude=./.git -C "$folder" -cf {quote(archive)} ."""


class Errand(NamedTuple):
    """On whose behalf `prepare` comes to a folder: a ``deployment`` for a ``server``, by their numbers.

    ``busy`` are the deployments that have not ended, this one too: what they have on its way there is left alone, but
    for ``broken``, the attempts of this server that were given up. ``version`` is the release that is to be made live,
    and ``made_at`` when its archive was made, in seconds since 1970: empty where it cannot be compared.
    """

    deployment: int = 0
    server: int = 0
    busy: frozenset[int] = frozenset()
    broken: tuple[str, ...] = ()
    version: str = ""
    made_at: int = 0


_NO_ERRAND = Errand()


def prepare(deploy_path: str, errand: Errand = _NO_ERRAND) -> str:
    """Make the folders and remove what broken uploads have left; then say what there is and what the server can do.

    The release may be served by another user: the folders can be read by everybody, whatever the login's umask.
    Prints ``L link`` (where current leads), ``A device:inode`` of the folder, ``R version`` for each release and
    ``T name`` for each tool that can be used; what `inspect` prints of the release that is to be made live, or where
    that is missing, ``P server``: the first of this deployment's servers that was sent to this folder, by its number.
    Exit 3: ``current`` is no link; 5: the folder cannot be made or written.
    """
    path = quote(deploy_path)
    stays = "|".join(f"releases/.*.{number}-*|releases/{_stager(number)}" for number in sorted(errand.busy))
    stays = f"{stays}) ;;\n" if stays else ""
    broken = "".join(f'releases/.*.{nonce}.*) set -- "$@" "$left" ;;\n' for nonce in errand.broken)
    text = f"""umask go+rx
mkdir -p {path}/releases {path}/shared || exit 5
[ -w {path}/releases ] && [ -w {path} ] || {{ echo "no right to write in "{path} >&2; exit 5; }}
cd {path} || exit 5
if [ -e current ] && [ ! -L current ]; then exit 3; fi
set --
for left in releases/.*.part releases/.*.unpacking releases/.*.sum releases/.*.stager .current.[0-9]*; do
[ -e "$left" ] || [ -L "$left" ] || continue
case $left in
{broken}{stays}*) set -- "$@" "$left" ;;
esac
done
[ $# = 0 ] || rm -rf -- "$@"
printf 'L %s\n' "$(readlink current)"
stat -Lc 'A %d:%i' . 2>/dev/null
for entry in releases/*/; do [ -d "$entry" ] && printf 'R %s\n' "$(basename "$entry")"; done
command -v zstd >/dev/null && echo "T zstd"
find / -maxdepth 0 -printf 'T find\n' 2>/dev/null || :
"""
    if errand.deployment:
        release, stager = quote(f"releases/{errand.version}"), f"releases/{_stager(errand.deployment)}"
        text += f"""if [ -d {release} ]; then :
{inspect(errand.version, errand.made_at) if errand.made_at else ""}else
ln -s {errand.server} {stager} 2>/dev/null
printf 'P %s\n' "$(readlink {stager})"
fi
"""
    return text


def _stager(deployment: int) -> str:
    """The link that says which server of a deployment is sent to a folder that several of them share."""
    return f".{deployment}.stager"


def withdraw(deploy_path: str, deployment: int) -> str:
    """Delete the link that `prepare` has made."""
    return f"rm -f -- {quote(f'{deploy_path}/releases/{_stager(deployment)}')}\n"


class PathState(NamedTuple):
    """The output of `prepare`: the live version, the versions that are there, the tools.

    ``inode`` is the folder's own; ``stager`` the server that is sent to it first, 0 where nothing has to be sent.
    ``shape`` is the digest of the release that is to be made live, empty where it was not asked for;
    ``was_written_to``: a file of it was, since it was packed.
    """

    live: str
    releases: list[str]
    tools: set[str]
    inode: str = ""
    stager: int = 0
    shape: str = ""
    was_written_to: bool = False


def read_path_state(text: str) -> PathState:
    """Take apart what `prepare` printed."""
    rows = [line.split(" ", 1) for line in text.splitlines() if " " in line]
    values = dict(rows[::-1])
    stager = values.get("P", "")
    return PathState(
        live=release_name(values.get("L", "")),
        releases=[value for kind, value in rows if kind == "R"],
        tools={value for kind, value in rows if kind == "T"},
        inode=values["A"] if _INODE.fullmatch(values.get("A", "")) else "",
        stager=int(stager) if _NUMBER.fullmatch(stager) else 0,
        shape=values.get("S", ""),
        was_written_to="N" in values,
    )


def work_name(version: str, nonce: str) -> str:
    """The name under which a release is made: never taken for one, and each attempt has its own."""
    return f".{version}.{nonce}.unpacking"


class Stream(NamedTuple):
    """Bytes that a server unpacks: how they are packed (``zstd`` or ``gzip``) and what they must be."""

    packing: str
    sha256: str


def part(deploy_path: str, version: str, nonce: str) -> str:
    """Where a packed archive arrives."""
    return f"{deploy_path}/releases/.{version}.{nonce}.part"


def receive(file: str, block: int, first: int) -> str:
    """Write standard input into ``file`` from its block number ``first`` on; several may do so at once."""
    name = quote(file)
    return f"""dd of={name} bs={block} seek={first} conv=notrunc iflag=fullblock status=none && exit 0
code=$?
rm -f {name}
exit $code
"""


def pour(deploy_path: str, version: str, nonce: str, packing: str) -> str:
    """Unpack standard input into the work folder while it arrives; only what has come whole leaves that behind.

    tar stops at the end of its archive, and what is packed has a checksum behind that: it is read on to the last byte.
    """
    work = quote(work_name(version, nonce))
    return f"""cd -- {quote(f"{deploy_path}/releases")} || exit 5
mkdir -p {work} || exit 5
{_SIZE_OF_RECORDS}
codes=$({{ {{ {packing} -dc; echo $? >&3; }} |
{{ tar $large -xpf - --no-same-owner -C {work} >&2 && cat >/dev/null; echo $? >&3; }}; }} 3>&1)
set -- $codes
[ "$*" = '0 0' ] || {{ rm -rf {work}; exit 1; }}
"""


def unpack(deploy_path: str, version: str, nonce: str, stream: Stream) -> str:
    """Unpack the received archive into the work folder, if it is the one that was sent. Exit 6: it is not.

    It is hashed in the meantime, and deleted in the end. Only a whole one leaves the work folder behind.
    """
    path, work = quote(f"{deploy_path}/releases"), quote(work_name(version, nonce))
    arrived, total = quote(part(deploy_path, version, nonce)), quote(f".{version}.{nonce}.sum")
    return f"""{HASHES}cd -- {path} || exit 5
mkdir -p {work} || exit 5
sum <{arrived} >{total} &
{_SIZE_OF_RECORDS}
{stream.packing} -dc <{arrived} | tar $large -xpf - --no-same-owner -C {work}
code=$?
wait
got=$(cat {total})
rm -f {arrived} {total}
if [ $code != 0 ]; then rm -rf {work}; exit 1; fi
if [ "$got" != {stream.sha256} ]; then rm -rf {work}; exit 6; fi
"""


def begin_from(
    deploy_path: str, base: str, version: str, nonce: str, names: Iterable[str], delete: Iterable[str]
) -> str:
    """Create the work folder as a copy of the release ``base`` without some of its entries.

    ``names`` are those of its top folder: what steps or the application have put beside them stays behind. Files are
    copied, by reference where the file system can: one that an application writes to changes no other.
    """
    work = quote(work_name(version, nonce))
    copied = "".join(f"{name}\n" for name in names)
    return f"""cd -- {quote(f"{deploy_path}/releases")} || exit 5
mkdir {work} && chmod --reference {quote(base)} {work} || exit 1
cd -- {quote(base)} || exit 1
while IFS= read -r name; do
[ ! -e "./$name" ] && [ ! -L "./$name" ] || printf './%s\\0' "$name"
done <<'{END_OF_NAMES}' | xargs -0 -r cp -a --reflink=auto -t ../{work} -- || exit 1
{copied}{END_OF_NAMES}
{trim(deploy_path, version, nonce, delete)}"""


def strip(deploy_path: str, version: str, nonce: str, names: Iterable[str]) -> str:
    """Delete all that lies in the work folder and has none of these ``names``, which are paths, folders too."""
    stay = "".join(f"./{path}\n" for path in names)
    return f"""cd -- {quote(f"{deploy_path}/releases/{work_name(version, nonce)}")} || exit 5
stay() {{
tr '\\n' '\\0' <<'{END_OF_NAMES}' | LC_ALL=C sort -z
{stay}{END_OF_NAMES}
}}
there=$(mktemp) && find . -mindepth 1 -print0 | LC_ALL=C sort -z >"$there" || exit 1
stay | LC_ALL=C comm -z -13 - "$there" | xargs -0 -r rm -rf --
rm -f -- "$there"
"""


def trim(deploy_path: str, version: str, nonce: str, delete: Iterable[str]) -> str:
    """Delete entries of the work folder."""
    names = "".join(f"{path}\n" for path in delete)
    return f"""cd -- {quote(f"{deploy_path}/releases/{work_name(version, nonce)}")} || exit 5
tr '\\n' '\\0' <<'{END_OF_NAMES}' | xargs -0 -r rm -rf --
{names}{END_OF_NAMES}
"""


def verify(deploy_path: str, version: str, nonce: str, shape: str, contents: str = "") -> str:
    """Compare the work folder with a manifest's digests. Exit 9: it differs."""
    work = quote(f"{deploy_path}/releases/{work_name(version, nonce)}")
    whole = f'[ "$(contents | sum)" = {contents} ] || exit {DIFFERS}\n' if contents else ""
    return f"""{HASHES}cd -- {work} || exit 5
[ "$(shapes | sum)" = {shape} ] || exit {DIFFERS}
{whole}"""


def listing(deploy_path: str, version: str, nonce: str) -> str:
    """Print what is in the work folder, as `manifest.Manifest.from_listing` reads it.

    No release has names with control characters: what an application made of that kind in the copy is deleted first.
    """
    work = quote(f"{deploy_path}/releases/{work_name(version, nonce)}")
    return f"""{HASHES}cd -- {work} || exit 5
LC_ALL=C find . -name '*[[:cntrl:]]*' -prune -exec rm -rf -- {{}} +
shapes
echo -
contents
"""


def link_shared(deploy_path: str, folder: str, paths: Iterable[str], *, replace: bool) -> str:
    """Let each of the ``paths`` of the release in ``folder`` lead to the one in ``shared/``, which is left alone.

    One that is not in ``shared/`` yet comes from the release, with its owners and modes. ``replace``: what the release
    itself has there is deleted; otherwise it stays, and its path is printed. Exit 10: the one that is printed as the
    last line of the error output is nowhere.
    """
    calls = "".join(f"link {quote(path.rstrip('/'))} {quote(path[len(path.rstrip('/')) :])}\n" for path in paths)
    stays = "" if replace else """if [ -e "$1" ] && [ ! -L "$1" ]; then printf '%s\\n' "$1"; return; fi\n"""
    return f"""shared={quote(f"{deploy_path}/shared")}
link() {{
kept=$shared/$1
if [ "$(readlink -- "$1")" = "$kept" ] && [ -e "$kept" ]; then return; fi
{stays}(umask 022; mkdir -p -- "$(dirname -- "$kept")" "$(dirname -- "$1")") || exit 1
if [ ! -e "$kept" ]; then
if [ -e "$1" ]; then
rm -rf -- "$kept.part" && cp -a -- "$1" "$kept.part" && mv -T -- "$kept.part" "$kept" || exit 1
elif [ -n "$2" ]; then mkdir -- "$kept" || exit 1
else printf '%s\\n' "$kept" >&2; exit {NOT_SHARED}
fi
fi
rm -rf -- "$1" && ln -s -- "$kept" "$1" || exit 1
}}
cd -- {quote(f"{deploy_path}/releases/{folder}")} || exit 5
umask go+rx
{calls}"""


def discard(deploy_path: str, version: str, nonce: str) -> str:
    """Delete the work folder."""
    return f"rm -rf -- {quote(f'{deploy_path}/releases/{work_name(version, nonce)}')}\n"


def finish(deploy_path: str, version: str, nonce: str) -> str:
    """Give the verified work folder the name of its release, in one rename.

    Where another machine that shares the folder was faster, its release is as good.
    """
    work, name = quote(work_name(version, nonce)), quote(version)
    stager = f"rm -f {_stager(int(nonce.partition('-')[0]))}\n" if "-" in nonce else ""
    return f"""cd -- {quote(f"{deploy_path}/releases")} || exit 1
mv -T {work} {name} || {{ [ -d {name} ] && rm -rf {work}; }} || exit 1
{stager}"""


def live(deploy_path: str) -> str:
    """Print where ``current`` leads; nothing where there is none."""
    return f"readlink {quote(deploy_path + '/current')} || :\n"


def switch(deploy_path: str, version: str) -> str:
    """Let ``current`` lead to a staged release, in one rename: a reader always finds one or the other.

    The link has a name of its own until then: several machines may switch one folder that they share.
    """
    path = quote(deploy_path)
    target = quote(f"releases/{version}")
    return f"""cd -- {path} || exit 5
[ -d {target} ] || exit 4
if [ -e current ] && [ ! -L current ]; then exit 3; fi
read -r unique </proc/sys/kernel/random/uuid
ln -s {target} ".current.$$.$unique" && mv -T ".current.$$.$unique" current
"""


def release_name(link: str) -> str:
    """The version that the text of ``current`` leads to; empty when there is none."""
    return told(link.strip().rpartition("/")[2])[:_NAME]


def inventory(deploy_path: str, run_as: str = "") -> str:
    """List the releases (``R name``), where current leads (``C link``) and what processes use (``U path``).

    ``D name`` are those that were deleted before, as far as something is left of them.
    """
    path = quote(deploy_path)
    used = "readlink /proc/[0-9]*/cwd /proc/[0-9]*/exe 2>/dev/null"
    theirs = f"; {as_user(run_as, used)}" if run_as else ""
    return f"""cd -- {path} || exit 5
for entry in releases/*/; do [ -d "$entry" ] && printf 'R %s\\n' "$(basename "$entry")"; done
for entry in releases/.deleted.*; do [ -e "$entry" ] && printf 'D %s\\n' "$entry"; done
printf 'C %s\\n' "$(readlink current)"
real=$(readlink -f releases)
{{ {used}{theirs}; }} | while IFS= read -r used; do
case $used in "$real"/*) printf 'U %s\\n' "${{used#"$real"/}}" ;; esac
done
"""


def superfluous(inventory_text: str, keep: int, also: Iterable[str], failed: Container[str] = ()) -> list[str]:
    """The releases to remove: not live, not in use, not in ``also``, not among the newest ``keep`` but ``failed``."""
    rows = [line.split(" ", 1) for line in inventory_text.splitlines() if " " in line]
    names = sorted(name for kind, name in rows if kind == "R")
    kept = {*[name for name in names if name not in failed][-keep:], *also}
    kept |= {release_name(value) for kind, value in rows if kind == "C"}
    kept |= {value.split("/")[0] for kind, value in rows if kind == "U"}
    return [name for name in names if name not in kept]


def leftovers(inventory_text: str) -> bool:
    """Whether something is left of releases that were deleted before."""
    return any(line.startswith("D ") for line in inventory_text.splitlines())


def remove(deploy_path: str, versions: Iterable[str], nonce: str, run_as: str = "") -> str:
    """Delete releases, and what is left of those that were deleted before.

    Each loses its name first, so that no part of one is ever taken for a release. What this login may not delete is
    tried as the user ``run_as``. Prints ``K version`` for each of ``versions`` of which something stays.
    """
    names = " ".join(quote(version) for version in versions)
    folder = quote(f"{deploy_path}/releases")
    theirs = as_user(run_as, f"cd -- {folder} && rm -rf -- .deleted.*") if run_as else ""
    again = f'set -- .deleted.*\n[ ! -e "$1" ] || {{ {theirs}; rm -rf -- .deleted.*; }} 2>/dev/null\n' if run_as else ""
    return f"""cd -- {folder} || exit 5
code=0
for name in {names}; do mv -T -- "$name" ".deleted.$name.{nonce}" || [ ! -e "$name" ] || code=1; done
rm -rf -- .deleted.* 2>/dev/null
{again}for name in {names}; do [ ! -e ".deleted.$name.{nonce}" ] || printf 'K %s\\n' "$name"; done
exit $code
"""


def kept_back(text: str) -> list[str]:
    """The versions of which `remove` could not delete everything."""
    return [line.removeprefix("K ") for line in text.splitlines() if line.startswith("K ")]
