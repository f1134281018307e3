"""Rounds of several ways to do one thing, and the table of their medians."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Measured:
    """What the rounds of one way took: wall time and the machine's CPU time in seconds, bytes on the wire."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    wire: int = 0

    @property
    def median_wall(self) -> float:
        return statistics.median(self.wall)

    @property
    def median_cpu(self) -> float:
        return statistics.median(self.cpu)


def rounds(ways: Mapping[str, Callable[[], object]], reset: Callable[[], None], number: int) -> dict[str, Measured]:
    """Do each of ``ways`` ``number`` times, in turns; ``reset`` is done before each and not counted."""
    measured = {name: Measured() for name in ways}
    for _round in range(number):
        for name, way in ways.items():
            reset()
            cpu, begun = machine_cpu(), time.perf_counter()
            way()
            measured[name].wall.append(time.perf_counter() - begun)
            measured[name].cpu.append(machine_cpu() - cpu)
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
) -> bool:
    """Print the medians and deployer's as a ratio of each other one's. Says whether every target was met.

    ``targets`` and ``most_bytes`` are the greatest ratios, of wall time and of bytes on the wire.
    """
    missed = 0
    own = measured["deployer"]
    print(f"\n{title}\n{'':24}{'wall s':>9}{'ratio':>7}{'CPU s':>9}{'ratio':>7}{'MB':>10}{'ratio':>7}  targets")
    for name, each in measured.items():
        columns = (
            (own.median_wall, each.median_wall),
            (own.median_cpu, each.median_cpu),
            (own.wire / 1e6, each.wire / 1e6),
        )
        line = f"{name:24}"
        for (mine, theirs), width in zip(columns, (9, 9, 10), strict=True):
            line += f"{theirs:{width}.3f}" if theirs else " " * width
            line += f"{mine / theirs:7.2f}" if theirs and each is not own else " " * 7
        line += _verdict("time", own.median_wall / each.median_wall, targets.get(name))
        line += _verdict("bytes", own.wire / max(each.wire, 1), (most_bytes or {}).get(name))
        print(line.rstrip(), flush=True)
        missed += "MISSED" in line
    return not missed


def _verdict(what: str, ratio: float, target: float | None) -> str:
    if target is None:
        return ""
    return f"  {what} {target:.2f} {'met' if ratio <= target else 'MISSED'}"
