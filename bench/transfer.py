"""Sending a release: one large file, many small ones, the second deployment, many servers, a far one."""

import os
import random
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from unittest import mock

import paramiko

from bench.table import Sides, machine_cpu, rounds, show
from bench.targets import readme
from bench.world import SSH_OPTIONS, Releases
from deployer.models import Release
from servers.ssh.shell import SSHShell

MB = 1_000_000
#: Bytes a second that go to many servers together.
UPLINK = 20 * MB
STEPS = {"open": "logging in", "capture": "short commands"}
SCP = f"scp -q {SSH_OPTIONS} -r -i {{key}} -P {{port}} . {{login}}:{{home}}/other/"
RSYNC = "rsync -a -e '{ssh}' ./ {login}:{home}/other/"
RSYNC_Z = "rsync -az -e '{ssh}' ./ {login}:{home}/other/"
LINK_DEST = "rsync -a --link-dest={home}/shop/current/ -e '{ssh}' ./ {login}:{home}/other/"
TAR = "tar -cf - . | {ssh} {login} tar -xf - -C {home}/other"
#: How a tool sends the payload: a shell command once a server, or a function for all of them.
Way = str | Callable[[Releases], None]


def large_file(folder: Path) -> None:
    """One file of 200 MB that nothing can compress."""
    (folder / "large.bin").write_bytes(os.urandom(200 * MB))


def small_files(folder: Path) -> None:
    """5,000 files of 12 kB each that compress as code does, in folders of fifty."""
    chance = random.Random(1)  # noqa: S311 (the same files each time)
    words = [chance.randbytes(3).hex() for _number in range(2000)]
    for n in range(5000):
        path = folder / f"package-{n // 50}" / f"module-{n}.js"
        path.parent.mkdir(exist_ok=True)
        path.write_text(" ".join(chance.choices(words, k=1714)))


def change(folder: Path) -> None:
    """A new build: every file has a new time, twenty of them something else in them."""
    for n, path in enumerate(sorted(folder.rglob("*.js"))):
        if n % 250 == 0:
            path.write_text(path.read_text()[:-100] + os.urandom(50).hex())
        os.utime(path)


def sftp(place: Releases) -> None:
    """The SSH library's own plain upload of the large file, to the first server."""
    sshd = place.sshds[0]
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())  # noqa: S507 (it is ours, on loopback)
    client.connect(sshd.host, place.ports[0], sshd.username, key_filename=str(sshd.folder / "login_key"))
    with client, client.open_sftp() as link:
        link.put(str(place.payload / "large.bin"), str(sshd.home / "other" / "large.bin"))


def unarchive(place: Releases) -> None:
    """Ansible sends an archive that was packed before, and unpacks it."""
    archive = place.folder / "payload.tar.gz"
    if not archive.exists():
        subprocess.run(["tar", "-C", place.payload, "-czf", archive, "."], check=True)
    place.ansible("unarchive", f"src={archive} dest={{{{ home }}}}/other/")


@contextmanager
def releases(size: int, fill: Callable[[Path], None]) -> Iterator[Releases]:
    """Servers and a payload."""
    place = Releases(size)
    try:
        fill(place.payload)
        yield place
    finally:
        place.close()


def compare(
    title: str,
    place: Releases,
    release: Release,
    others: dict[str, Way],
    targets: dict[str, float],
    number: int,
    *,
    most_bytes: dict[str, float] | None = None,
    most_here: dict[str, float] | None = None,
    delay: float = 0.0,
    uplink: float = 0.0,
) -> None:
    """One table: deployer's transfer of ``release``, and that of the same payload by the other tools.

    ``targets``, ``most_bytes`` and ``most_here`` are the greatest ratios, of wall time, of bytes, and of CPU on the
    platform's side. Where there is neither ``delay`` nor ``uplink``, the bytes are those of a round of their own,
    through a proxy, which takes time itself.
    """
    ways: dict[str, Callable[[], None]] = {"deployer": lambda: place.stage(release)}
    for name, way in others.items():
        ways[name] = partial(place.everywhere, way) if isinstance(way, str) else partial(way, place)

    def reset() -> None:
        place.forget(release.version)

    sides = Sides(_own_cpu, lambda: place.there.cpu)
    if delay or uplink:
        with place.through_proxies(delay, uplink) as proxies:
            found = rounds(ways, reset, number, sides, forwarded=lambda: proxies.forwarded)
    else:
        found = rounds(ways, reset, number, sides)
    if most_bytes:
        with place.through_proxies() as proxies:
            for name, each in rounds(ways, reset, 1, forwarded=lambda: proxies.forwarded).items():
                found[name].wire = each.wire
    if not show(title, found, targets, most_bytes or {}, most_here=most_here):
        with place.through_proxies(delay, uplink) if delay or uplink else nullcontext():
            profile(place, release)
    shown = {name: f"{each.median_wall:.1f} s" for name, each in found.items()}
    if most_bytes or uplink:
        shown = {name: f"{took}, {found[name].wire / MB:.1f} MB" for name, took in shown.items()}
    readme(title, shown["deployer"], ", ".join(f"{name} {shown[name]}" for name in targets or most_here or ()))


def _own_cpu() -> float:
    """Seconds of CPU of this process and of all that it has started and waited for."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in spent)


def profile(place: Releases, release: Release) -> None:
    """Where deployer's time goes when it sends ``release``: what its steps take, and whose CPU."""
    place.forget(release.version)
    with steps() as taken:
        cpu, begun, own = machine_cpu(), time.perf_counter(), time.process_time()
        place.stage(release)
        wall, cpu, own = time.perf_counter() - begun, machine_cpu() - cpu, time.process_time() - own
    print("Where the time goes, in seconds; side by side they add up to more than the whole:")
    for name, seconds in taken.items():
        print(f"  {name:40}{sum(seconds) / len(place.sshds):6.2f} a server")
    print(f"  {'all of it':40}{wall:6.2f}")
    print(
        f"CPU: {own:.2f} s of deployer's own, {cpu - own:.2f} s of everything else: on {os.cpu_count()} processors "
        f"it could not take less than {cpu / (os.cpu_count() or 1):.2f} s"
    )


@contextmanager
def steps() -> Iterator[dict[str, list[float]]]:
    """The seconds that deployer's logins, short commands, uploads and unpacking take meanwhile."""
    taken: dict[str, list[float]] = {}
    plain = {name: getattr(SSHShell, name) for name in ("open", "capture", "feed")}

    def watched(name: str) -> Callable[..., object]:
        def do(shell: SSHShell, *words: object, **options: object) -> object:
            step = name
            if name == "feed":
                step = "verifying" if words[1] == () else "sending, unpacking"
            begun = time.perf_counter()
            try:
                return plain[name](shell, *words, **options)
            finally:
                taken.setdefault(STEPS.get(step, step), []).append(time.perf_counter() - begun)

        return do

    with ExitStack() as stack:
        for name in plain:
            stack.enter_context(mock.patch.object(SSHShell, name, watched(name)))
        yield taken


def second_release(place: Releases) -> Release:
    """The next build of the payload, while the first one is live."""
    first = place.build()
    change(place.payload)
    release = place.build()
    for sshd in place.sshds:
        current = sshd.home / "shop" / "current"
        current.unlink()
        current.symlink_to(f"releases/{first.version}")
    return release


def main(number: int, *, quick: bool) -> None:
    """All tables of the transfer, of ``number`` rounds."""
    with releases(1, large_file) as place:
        others: dict[str, Way] = {"scp": SCP, "rsync -a": RSYNC, "tar | ssh": TAR, "sftp.put (paramiko)": sftp}
        release = place.build()
        compare("200 MB that nothing can compress", place, release, others, {"scp": 0.8}, number)
        title = "the same, 50 ms away"
        compare(title, place, release, {"scp": SCP}, {"scp": 1 / 3}, max(number // 2, 1), delay=0.025)
    with releases(1, small_files) as place:
        others = {"scp -r": SCP, "rsync -a": RSYNC, "tar | ssh": TAR, "Ansible unarchive": unarchive}
        compare("5,000 small files, 60 MB", place, place.build(), others, {"rsync -a": 0.6}, min(number, 3))
        title = "again, with 20 of them changed and all with new times"
        name = "rsync --link-dest"
        compare(title, place, second_release(place), {name: LINK_DEST}, {name: 0.6}, number, most_bytes={name: 1.2})
    size = 5 if quick else 20
    with releases(size, small_files) as place:
        release = place.build()
        title, number = f"5,000 small files to {size} servers", max(number // 2, 1)
        others = {"rsync -a": RSYNC, "rsync -az": RSYNC_Z}
        compare(title, place, release, others, {}, number, most_here={"rsync -a": 0.2})
        targets = {"rsync -a": 0.4, "rsync -az": 0.8}
        title = f"the same behind an uplink of {UPLINK // MB} MB/s"
        compare(title, place, release, others, targets, 1, uplink=UPLINK)
