"""Shell text that packs a release here and stages, switches and prunes it on a server.

::

    {deploy_path}/releases/VERSION   one folder a release, whole or not there at all
    {deploy_path}/shared             kept between releases
    {deploy_path}/current            a symbolic link to the live release, replaced by one rename
"""

from collections.abc import Iterable
from shlex import quote

from django.utils.translation import gettext_lazy as _

#: Exit status of a switch whose deployment somebody else has taken over.
TAKEN_OVER = 7
#: What the exit statuses below mean: (why, what to do), with the deploy path as ``path``.
REASONS = {
    3: (
        _("%(path)s/current is a real folder and not a link"),
        _("Move it away (for example to %(path)s/releases/first) and link current to it, then deploy again."),
    ),
    4: (_("the release is not in %(path)s/releases"), _("Deploy it again.")),
    5: (
        _("%(path)s cannot be made or written by this login"),
        _("Make the folder and give it to the login's user."),
    ),
    6: (
        _("what arrived differs from what was sent"),
        _("Check the free space of the disk, then deploy again."),
    ),
    TAKEN_OVER: (_("somebody else has taken this deployment over"), _("Look at what it says of this server.")),
}


def pack(folder: str, archive: str) -> str:
    """Pack ``folder`` into ``archive`` (tar, gzip -1), names sorted and owners left out."""
    return f"tar --sort=name --owner=0 --group=0 --numeric-owner -C {quote(folder)} -cf - . | gzip -1 >{quote(archive)}"


def partial_archive(deploy_path: str, version: str) -> str:
    """Where an upload arrives; a name that is never taken for a release."""
    return f"{deploy_path}/releases/.{version}.tar.gz.part"


def prepare(deploy_path: str) -> str:
    """Make the folders and remove what broken uploads have left.

    Exit 3: ``current`` is no link; 5: the folder cannot be made or written.
    """
    path = quote(deploy_path)
    return f"""mkdir -p {path}/releases {path}/shared || exit 5
[ -w {path}/releases ] && [ -w {path} ] || {{ echo "no right to write in "{path} >&2; exit 5; }}
if [ -e {path}/current ] && [ ! -L {path}/current ]; then exit 3; fi
rm -rf {path}/releases/.*.tar.gz.part {path}/releases/.*.unpacking
"""


def live(deploy_path: str) -> str:
    """Print where ``current`` leads; nothing where there is none."""
    return f"readlink {quote(deploy_path + '/current')} || :\n"


def is_there(deploy_path: str, version: str) -> str:
    """Exit 0 when the release is on the server, whole: it gets its name only then."""
    return f"[ -d {quote(f'{deploy_path}/releases/{version}')} ]\n"


def unpack(deploy_path: str, version: str, sha256: str) -> str:
    """Verify the uploaded archive, unpack it under a temporary name and rename it. Exit 6: the bytes differ."""
    part = quote(partial_archive(deploy_path, version))
    work = quote(f"{deploy_path}/releases/.{version}.unpacking")
    final = quote(f"{deploy_path}/releases/{version}")
    return f"""if [ -d {final} ]; then rm -f {part}; exit 0; fi
if command -v sha256sum >/dev/null; then sum=$(sha256sum <{part}); else sum=$(openssl dgst -sha256 -r <{part}); fi
[ "${{sum%% *}}" = {quote(sha256)} ] || {{ rm -f {part}; exit 6; }}
rm -rf {work}
mkdir {work} && tar -xzof {part} -C {work} && mv -T {work} {final}
code=$?
rm -rf {part} {work}
exit $code
"""


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


def inventory(deploy_path: str) -> str:
    """List the releases (``R name``), where current leads (``C link``) and what processes use (``U path``)."""
    path = quote(deploy_path)
    return f"""cd -- {path} || exit 5
for entry in releases/*/; do [ -d "$entry" ] && printf 'R %s\\n' "$(basename "$entry")"; done
printf 'C %s\\n' "$(readlink current)"
real=$(readlink -f releases)
readlink /proc/[0-9]*/cwd /proc/[0-9]*/exe 2>/dev/null | while IFS= read -r used; do
case $used in "$real"/*) printf 'U %s\\n' "${{used#"$real"/}}" ;; esac
done
"""


def superfluous(inventory_text: str, keep: int, also: Iterable[str]) -> list[str]:
    """The releases that may go: not among the newest ``keep``, not live, not in use, not in ``also``."""
    rows = [line.split(" ", 1) for line in inventory_text.splitlines() if " " in line]
    names = sorted(name for kind, name in rows if kind == "R")
    kept = set(names[-keep:]) | set(also)
    kept |= {release_name(value) for kind, value in rows if kind == "C"}
    kept |= {value.split("/")[0] for kind, value in rows if kind == "U"}
    return [name for name in names if name not in kept]


def remove(deploy_path: str, versions: Iterable[str]) -> str:
    """Delete releases."""
    return "rm -rf -- " + " ".join(quote(f"{deploy_path}/releases/{version}") for version in versions)
