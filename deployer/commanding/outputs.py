"""What a command printed on its servers, those that printed the same together."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from deployer.models import CommandLine, CommandRun, CommandTarget

#: Lines of a log that are read for this, and of one server that are shown.
READ, SHOWN = 20_000, 200


@dataclass
class Output:
    """Servers that ended alike and printed the same ``lines``.

    ``more`` lines of each are not shown; ``is_cut``: not all of the log was read for this.
    """

    status: str
    label: str
    exit_code: int | None
    error: str
    lines: list[str] = field(default_factory=list)
    more: int = 0
    is_cut: bool = False
    targets: list[CommandTarget] = field(default_factory=list)


def outputs_of(run: CommandRun, targets: Sequence[CommandTarget]) -> list[Output]:
    """Those that failed first, then the largest group; of each server both streams in the order of the log."""
    rows = CommandLine.objects.of(run.pk).exclude(target=None).exclude(stream=CommandLine.Stream.SYSTEM)
    printed: dict[int, list[str]] = {}
    read = [*rows.values_list("target_id", "content")[:READ]]
    for target_id, content in read:
        printed.setdefault(target_id, []).append(content)
    found: dict[object, Output] = {}
    for target in targets:
        lines = printed.get(target.pk, [])
        # What is said of its end may name the server: it is no part of what makes two alike where both ended well.
        said = "" if target.status == CommandTarget.Status.DONE else target.error.replace(target.server_name, "")
        key = target.status, target.exit_code, said, tuple(lines)
        if key not in found:
            label = target.get_status_display()
            shown, more = lines[:SHOWN], max(len(lines) - SHOWN, 0)
            found[key] = Output(target.status, label, target.exit_code, target.error, shown, more, len(read) == READ)
        found[key].targets.append(target)
    good = {CommandTarget.Status.DONE, CommandTarget.Status.SKIPPED}
    return sorted(found.values(), key=lambda it: (it.status in good, -len(it.targets)))
