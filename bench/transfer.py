"""Sending a release: one large file, many small ones, the second deployment, many servers, a far one."""

import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from unittest import mock

import paramiko

from bench.table import machine_cpu, rounds, show
from bench.world import SSH_OPTIONS, Releases
from deployer.models import Release
from servers.ssh.shell import SSHShell

MB = 1_000_000
STEPS = {"open": "logging in", "capture": "short commands"}
SCP = f"scp -q {SSH_OPTIONS} -r -i {{key}} -P {{port}} . {{login}}:{{home}}/other/"
RSYNC = "rsync -a -e '{ssh}' ./ {login}:{home}/other/"
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
    delay: float = 0.0,
) -> None:
    """One table: deployer's transfer of ``release``, and that of the same payload by the other tools.

    ``targets`` and ``most_bytes`` are the greatest ratios, of wall time and of bytes; the bytes are those of a round of
    their own, through a proxy, which takes time itself.
    """
    ways: dict[str, Callable[[], None]] = {"deployer": lambda: place.stage(release)}
    for name, way in others.items():
        ways[name] = partial(place.everywhere, way) if isinstance(way, str) else partial(way, place)
    if delay:
        with place.through_proxies(delay):
            found = rounds(ways, lambda: place.forget(release.version), number)
    else:
        found = rounds(ways, lambda: place.forget(release.version), number)
    with place.through_proxies() as proxies:
        for name, do in ways.items():
            place.forget(release.version)
            before = proxies.forwarded
            do()
            found[name].wire = proxies.forwarded - before
    if not show(title, found, targets, most_bytes or {}):
        profile(place, release)


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
                step = "unpacking, verifying" if words[1] == () else "sending"
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
        compare("One file of 200 MB, incompressible", place, release, others, {"scp": 0.8}, number)
        title = "The same, 50 ms away"
        compare(title, place, release, {"scp": SCP}, {"scp": 1 / 3}, max(number // 2, 1), delay=0.025)
    with releases(1, small_files) as place:
        others = {"scp -r": SCP, "rsync -a": RSYNC, "tar | ssh": TAR, "Ansible unarchive": unarchive}
        compare("5,000 small files, 60 MB", place, place.build(), others, {"rsync -a": 0.6}, number)
        title = "The second deployment: 5,000 files, 20 of them changed, all with new times"
        name = "rsync --link-dest"
        compare(title, place, second_release(place), {name: LINK_DEST}, {name: 0.6}, number, most_bytes={name: 1.2})
    for size in (5,) if quick else (5, 20):
        with releases(size, small_files) as place:
            title = f"5,000 small files to {size} servers"
            compare(title, place, place.build(), {"rsync -a": RSYNC}, {"rsync -a": 0.5}, max(number // 2, 1))
