"""Shell text that compares a release on a server with its manifest, and mends it where it lies."""

from collections.abc import Iterable, Iterator, Sequence
from shlex import quote

from projects.commands.manifest import Damage

#: Ends a list of names; it has a slash at its end, so no entry of a release is called that.
END_OF_NAMES = "end/of/names/"
#: Names that are given to one command at once; a command line holds 128 KB at least.
_AT_ONCE = 200
#: Functions that print the SHA-256 of each file named on standard input (NUL after each), and of standard input.
HASHES = """if command -v openssl >/dev/null; then
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


def inspect(version: str, made_at: int) -> str:
    """Look, in the deploy path, whether a release still is what was packed at ``made_at``, in seconds since 1970.

    Prints ``S digest`` of its shapes, and ``N file`` of one that was written to after that.
    """
    return f"""{HASHES}if find / -maxdepth 0 -printf '' 2>/dev/null; then (
cd -- {quote(f"releases/{version}")} || {{ echo "S -"; exit 0; }}
printf 'S %s\\n' "$(shapes 2>/dev/null | sum)"
find . -type f -newermt @{made_at} -printf 'N %P\\n' -quit 2>/dev/null
); fi
"""


#: Prints the shapes of the entries that are named, each path behind ``./``, as `HASHES` does of a whole tree.
_SHAPES = r"""'\( -type d -printf "d\t%m\t\t\t%p\n" \) -o \( -type l -printf "l\t\t\t%l\t%p\n" \) \
-o -printf "%y\t%m\t%s\t\t%p\n"' | sed 's/^\([a-z]\)\t[0-7]*\([0-7][0-7][0-7]\)\t/\1\t\2\t/'"""


def compare(deploy_path: str, version: str, paths: Iterable[str], made_at: int) -> str:
    """Print what has become of these ``paths`` of a release; nothing else that lies there is looked at.

    First their shapes, as `manifest.damage` reads them; a line ``-``; the files that were written to after
    ``made_at``; a line ``-``; and the hashes of these. An empty line comes before each ``-``.
    """
    names = "".join(f"./{path}\n" for path in paths)
    return f"""{HASHES}cd -- {quote(f"{deploy_path}/releases/{version}")} || exit 4
names() {{
tr '\\n' '\\0' <<'{END_OF_NAMES}'
{names}{END_OF_NAMES}
}}
each() {{ names | xargs -0 -r sh -c 'exec find "$@" -maxdepth 0 '"$1" sh 2>/dev/null; }}
each {_SHAPES}
printf '\\n-\\n'
each '-type f -newermt @{made_at} -printf "%p\\n"'
printf '\\n-\\n'
each '-type f -newermt @{made_at} -print0' | hashes
"""


#: Whether a name is what an entry of its kind has to be.
_IS = {"f": "[ -f {0} ] && [ ! -L {0} ]", "d": "[ -d {0} ] && [ ! -L {0} ]", "l": "[ -L {0} ]"}


def mend(deploy_path: str, version: str, work: str, damage: Damage) -> str:
    """Put what the folder ``work`` beside it holds in its place in a release, each file by a rename: it may be live.

    What the application has written there stays. ``work`` is deleted. Done twice, it does no harm.
    """
    folders = {entry.path.rpartition("/")[0] for entry in damage.send} - {""}
    folders |= {entry.path for entry in damage.send if entry.kind == "d"}
    places: dict[str, list[str]] = {}
    for entry in damage.send:
        if entry.kind != "d":
            places.setdefault(entry.path.rpartition("/")[0] or ".", []).append(f"../{work}/{entry.path}")
    modes: dict[int, list[str]] = {}
    for entry in [*damage.modes, *(entry for entry in damage.send if entry.kind == "d")]:
        modes.setdefault(entry.mode, []).append(entry.path)
    kinds = {entry.path: _IS[entry.kind] for entry in damage.send}
    in_the_way = (f"{{ {kinds[path].format(quote(path))}; }} || rm -rf -- {quote(path)}\n" for path in damage.delete)
    lines = [
        *in_the_way,
        *_for_names("mkdir -p --", sorted(folders)),
        *(line for place, names in places.items() for line in _for_names(f"mv -f -t {quote(f'./{place}')} --", names)),
        *(line for mode, names in modes.items() for line in _for_names(f"chmod {mode:o} --", names)),
        f"rm -rf -- {quote(f'../{work}')}\n",
    ]
    return f"cd -- {quote(f'{deploy_path}/releases/{version}')} || exit 4\n{''.join(lines)}"


def _for_names(command: str, names: Sequence[str]) -> Iterator[str]:
    """Lines that do ``command`` to all of ``names``, as many at once as a command line holds."""
    for first in range(0, len(names), _AT_ONCE):
        yield f"{command} {' '.join(map(quote, names[first : first + _AT_ONCE]))} || exit 1\n"


def set_aside(deploy_path: str, version: str, nonce: str) -> str:
    """Take its name from a release that cannot be mended; it is deleted like an old one."""
    away = quote(f".deleted.{version}.{nonce}")
    name = quote(version)
    return f"cd -- {quote(f'{deploy_path}/releases')} && {{ [ ! -e {name} ] || mv -T -- {name} {away}; }}\n"
