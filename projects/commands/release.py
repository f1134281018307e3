"""Shell text that packs a release here and stages, switches and prunes it on a server.

::

    {deploy_path}/releases/VERSION   one folder a release, whole or not there at all
    {deploy_path}/shared             kept between releases
    {deploy_path}/current            a symbolic link to the live release, replaced by one rename
"""

from collections.abc import Container, Iterable
from shlex import quote
from typing import NamedTuple

from django.utils.translation import gettext_lazy as _

from servers.shell import as_user

#: Exit status of a switch whose deployment another worker has taken over.
TAKEN_OVER = 7
#: Exit status of `verify` where a tree is not as its manifest says.
DIFFERS = 9
#: Exit status of `link_shared` for a file that is neither in shared/ nor in the release.
NOT_SHARED = 10
#: 512-byte blocks that GNU tar reads at a time; its own 20 cost a third of the time of a large file.
RECORD_BLOCKS = 512
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


def pack(folder: str, archive: str) -> str:
    """Pack ``folder`` into ``archive``, a plain tar: names sorted, owners left out, hard links as files of their own.

    What nobody but the owner should write is so, and the owner can read everything and delete it again.
    """
    return (
        "tar --sort=name --owner=0 --group=0 --numeric-owner --hard-dereference --mode=u+rwX,go-w "
        f"-C {quote(folder)} -cf {quote(archive)} ."
    )


def prepare(deploy_path: str) -> str:
    """Make the folders and remove what broken uploads have left; then say what there is and what the server can do.

    The release may be served by another user: the folders can be read by everybody, whatever the login's umask.
    Prints ``L link`` (where current leads), ``R version`` for each release and ``T name`` for each tool that can be
    used. Exit 3: ``current`` is no link; 5: the folder cannot be made or written.
    """
    path = quote(deploy_path)
    return f"""umask go+rx
mkdir -p {path}/releases {path}/shared || exit 5
[ -w {path}/releases ] && [ -w {path} ] || {{ echo "no right to write in "{path} >&2; exit 5; }}
cd {path} || exit 5
if [ -e current ] && [ ! -L current ]; then exit 3; fi
rm -rf releases/.*.part releases/.*.unpacking releases/.*.sum .current.[0-9]*
printf 'L %s\n' "$(readlink current)"
for entry in releases/*/; do [ -d "$entry" ] && printf 'R %s\n' "$(basename "$entry")"; done
command -v zstd >/dev/null && echo "T zstd"
find / -maxdepth 0 -printf 'T find\n' 2>/dev/null || :
"""


class PathState(NamedTuple):
    """The output of `prepare`: the live version, the versions that are there, the tools."""

    live: str
    releases: list[str]
    tools: set[str]


def read_path_state(text: str) -> PathState:
    """Take apart what `prepare` printed."""
    rows = [line.split(" ", 1) for line in text.splitlines() if " " in line]
    live = next((release_name(value) for kind, value in rows if kind == "L"), "")
    return PathState(live, [v for kind, v in rows if kind == "R"], {v for kind, v in rows if kind == "T"})


def work_name(version: str, nonce: str) -> str:
    """The name under which a release is made: never taken for one, and each attempt has its own."""
    return f".{version}.{nonce}.unpacking"


#: Functions that print the SHA-256 of each file named on standard input (NUL after each), and of standard input.
_HASHES = """if command -v openssl >/dev/null; then
hashes() { xargs -0 -r openssl dgst -sha256 -r | cut -c1-64; }; sum() { openssl dgst -sha256 -r | cut -c1-64; }
else
hashes() { xargs -0 -r sha256sum -b | sed 's/^\\\\//' | cut -c1-64; }; sum() { sha256sum | cut -c1-64; }
fi
shapes() {
find . -mindepth 1 \\( -type d -printf 'd\\t%m\\t\\t\\t%P\\n' \\) -o \\( -type l -printf 'l\\t\\t\\t%l\\t%P\\n' \\) \\
-o -printf '%y\\t%m\\t%s\\t\\t%P\\n' | sed 's/^\\([a-z]\\)\\t[0-7]*\\([0-7][0-7][0-7]\\)\\t/\\1\\t\\2\\t/' |
LC_ALL=C sort
}
contents() { find . -type f -print0 | LC_ALL=C sort -z | hashes; }
"""


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


def unpack(deploy_path: str, version: str, nonce: str, stream: Stream) -> str:
    """Unpack the received archive into the work folder, if it is the one that was sent. Exit 6: it is not.

    It is hashed in the meantime, and deleted in the end. Only a whole one leaves the work folder behind.
    """
    path, work = quote(f"{deploy_path}/releases"), quote(work_name(version, nonce))
    arrived, total = quote(part(deploy_path, version, nonce)), quote(f".{version}.{nonce}.sum")
    return f"""{_HASHES}cd -- {path} || exit 5
mkdir -p {work} || exit 5
sum <{arrived} >{total} &
case $(tar --version 2>/dev/null) in *GNU*) large=-b{RECORD_BLOCKS} ;; *) large= ;; esac
{stream.packing} -dc <{arrived} | tar $large -xpf - --no-same-owner -C {work}
code=$?
wait
got=$(cat {total})
rm -f {arrived} {total}
if [ $code != 0 ]; then rm -rf {work}; exit 1; fi
if [ "$got" != {stream.sha256} ]; then rm -rf {work}; exit 6; fi
"""


def begin_from(deploy_path: str, base: str, version: str, nonce: str, delete: Iterable[str]) -> str:
    """Create the work folder as a copy of the release ``base`` without some of its entries.

    Files are copied, by reference where the file system can: one that an application writes to changes no other.
    """
    work = f"releases/{work_name(version, nonce)}"
    return f"""cd -- {quote(deploy_path)} || exit 5
mkdir {quote(work)} && cp -a --reflink=auto -- {quote(f"releases/{base}/.")} {quote(work)} || exit 1
{trim(deploy_path, version, nonce, delete)}"""


def trim(deploy_path: str, version: str, nonce: str, delete: Iterable[str]) -> str:
    """Delete entries of the work folder."""
    names = "".join(f"{path}\n" for path in delete)
    return f"""cd -- {quote(f"{deploy_path}/releases/{work_name(version, nonce)}")} || exit 5
tr '\\n' '\\0' <<'{END_OF_NAMES}' | xargs -0 -r rm -rf --
{names}{END_OF_NAMES}
"""


#: Ends a list of names; it has a slash at its end, so no entry of a release is called that.
END_OF_NAMES = "end/of/names/"


def verify(deploy_path: str, version: str, nonce: str, shape: str, contents: str = "") -> str:
    """Compare the work folder with a manifest's digests. Exit 9: it differs."""
    work = quote(f"{deploy_path}/releases/{work_name(version, nonce)}")
    whole = f'[ "$(contents | sum)" = {contents} ] || exit {DIFFERS}\n' if contents else ""
    return f"""{_HASHES}cd -- {work} || exit 5
[ "$(shapes | sum)" = {shape} ] || exit {DIFFERS}
{whole}"""


def listing(deploy_path: str, version: str, nonce: str) -> str:
    """Print what is in the work folder, as `manifest.Manifest.from_listing` reads it.

    No release has names with control characters: what an application made of that kind in the copy is deleted first.
    """
    work = quote(f"{deploy_path}/releases/{work_name(version, nonce)}")
    return f"""{_HASHES}cd -- {work} || exit 5
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
    """Give the verified work folder the name of its release, in one rename."""
    work, name = quote(work_name(version, nonce)), quote(version)
    return f"cd -- {quote(f'{deploy_path}/releases')} && mv -T {work} {name} || exit 1\n"


def live(deploy_path: str) -> str:
    """Print where ``current`` leads; nothing where there is none."""
    return f"readlink {quote(deploy_path + '/current')} || :\n"


def switch(deploy_path: str, version: str) -> str:
    """Let ``current`` lead to a staged release, in one rename: a reader always finds one or the other."""
    path = quote(deploy_path)
    target = quote(f"releases/{version}")
    return f"""cd -- {path} || exit 5
[ -d {target} ] || exit 4
if [ -e current ] && [ ! -L current ]; then exit 3; fi
ln -s {target} ".current.$$" && mv -T ".current.$$" current
"""


def release_name(link: str) -> str:
    """The version that the text of ``current`` leads to; empty when there is none."""
    return link.strip().rpartition("/")[2]


def inventory(deploy_path: str, run_as: str = "") -> str:
    """List the releases (``R name``), where current leads (``C link``) and what processes use (``U path``)."""
    path = quote(deploy_path)
    used = "readlink /proc/[0-9]*/cwd /proc/[0-9]*/exe 2>/dev/null"
    theirs = f"; {as_user(run_as, used)}" if run_as else ""
    return f"""cd -- {path} || exit 5
for entry in releases/*/; do [ -d "$entry" ] && printf 'R %s\\n' "$(basename "$entry")"; done
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


def remove(deploy_path: str, versions: Iterable[str]) -> str:
    """Delete releases."""
    return "rm -rf -- " + " ".join(quote(f"{deploy_path}/releases/{version}") for version in versions)
