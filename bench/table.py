"""Rounds of several ways to do one thing, and the table of their medians."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.sides import settle
from bench.targets import note

#: Seconds after which a table has no further round: a slow machine is not to take hours.
ENOUGH = 100.0


@dataclass(frozen=True)
class Sides:
    """Seconds of CPU that the platform's side has spent until now, whatever does the work, and the servers'."""

    platform: Callable[[], float]
    servers: Callable[[], float]

    def settle(self) -> None:
        """Wait until what goes on behind the end of the work is over, too."""
        settle(self.platform, self.servers)


@dataclass
class Measured:
    """What the rounds of one way took: wall time and the machine's CPU time in seconds, bytes on the wire.

    ``platform`` and ``servers`` are the CPU time of the two sides, where it was measured apart.
    """

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    wire: int = 0
    platform: list[float] = field(default_factory=list)
    servers: list[float] = field(default_factory=list)

    @property
    def median_wall(self) -> float:
        return statistics.median(self.wall)

    @property
    def median_cpu(self) -> float:
        return statistics.median(self.cpu)

    @property
    def median_platform(self) -> float:
        return statistics.median(self.platform or [0.0])

    @property
    def median_servers(self) -> float:
        return statistics.median(self.servers or [0.0])


def rounds(
    ways: Mapping[str, Callable[[], object]],
    reset: Callable[[], None],
    number: int,
    sides: Sides | None = None,
    seldom: Mapping[str, int] | None = None,
    forwarded: Callable[[], int] | None = None,
) -> dict[str, Measured]:
    """Do each of ``ways`` ``number`` times, in turns, as long as there is time; ``reset`` comes before each, uncounted.

    ``seldom`` names those that are done less often, and how often; ``forwarded`` are the bytes on the wire until now.
    """
    measured = {name: Measured() for name in ways}
    until = time.monotonic() + ENOUGH
    for turn in range(number):
        for name, way in ways.items():
            if turn >= (seldom or {}).get(name, number) or (turn and time.monotonic() > until):
                continue
            reset()
            before = (sides.platform(), sides.servers()) if sides else (0.0, 0.0)
            bytes_before = forwarded() if forwarded else 0
            cpu, begun = machine_cpu(), time.perf_counter()
            way()
            measured[name].wall.append(time.perf_counter() - begun)
            if sides:
                sides.settle()
                measured[name].platform.append(sides.platform() - before[0])
                measured[name].servers.append(sides.servers() - before[1])
            measured[name].cpu.append(machine_cpu() - cpu)
            if forwarded:
                measured[name].wire = forwarded() - bytes_before
    return measured


def machine_cpu() -> float:
    """Seconds of CPU that the whole machine has spent: both ends of a link on loopback are on it."""
    user, nice, system, _idle, _wait, irq, softirq, *_rest = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq) / 100


def processes_started() -> int:
    """How many processes this machine has started since it was booted."""
    return int(Path("/proc/stat").read_text().partition("\nprocesses ")[2].split()[0])


def show(
    title: str,
    measured: Mapping[str, Measured],
    targets: Mapping[str, float],
    most_bytes: Mapping[str, float] | None = None,
    idle: float = 0.0,
    most_here: Mapping[str, float] | None = None,
) -> bool:
    """Print the medians and deployer's as a ratio of each other one's. Says whether every target was met.

    ``targets``, ``most_bytes`` and ``most_here`` are the greatest ratios, of wall time, of bytes on the wire and of the
    CPU of the platform's side. ``idle`` are seconds that deployer waits because it was told to: they are shown, and
    left out of the ratios of wall time.
    """
    missed = 0
    own = measured["deployer"]
    apart = f"{'here s':>9}{'ratio':>7}{'there s':>9}{'ratio':>7}" if own.platform else ""
    print(f"\n{title}")
    if idle:
        print(f"  (deployer watches for {idle:g} s, which no ratio of wall time counts)")
    print(f"{'':24}{'wall s':>9}{'ratio':>7}{'CPU s':>9}{'ratio':>7}{'MB':>10}{'ratio':>7}{apart}  targets")
    for name, each in measured.items():
        columns = [
            (own.median_wall - idle, each.median_wall, 9),
            (own.median_cpu, each.median_cpu, 9),
            (own.wire / 1e6, each.wire / 1e6, 10),
        ]
        if own.platform:
            columns += [(own.median_platform, each.median_platform, 9), (own.median_servers, each.median_servers, 9)]
        line = f"{name:24}"
        for mine, theirs, width in columns:
            line += f"{theirs:{width}.3f}" if theirs else " " * width
            line += f"{mine / theirs:7.2f}" if theirs and each is not own else " " * 7
        what = f"{title}, deployer / {name}"
        line += _verdict(what, "time", (own.median_wall - idle) / each.median_wall, targets.get(name))
        line += _verdict(what, "bytes", own.wire / max(each.wire, 1), (most_bytes or {}).get(name))
        here = own.median_platform / each.median_platform if each.median_platform else 1.0
        line += _verdict(what, "CPU here", here, (most_here or {}).get(name))
        print(line.rstrip(), flush=True)
        missed += "MISSED" in line
    return not missed


def _verdict(what: str, kind: str, ratio: float, target: float | None) -> str:
    if target is None:
        return ""
    verdict = note(f"{what}, {kind}", f"{ratio:.2f}", f"{target:.2f}", met=ratio <= target)
    return f"  {kind} {target:.2f} {verdict}"
