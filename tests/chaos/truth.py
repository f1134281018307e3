"""What is true of all deployments once they have ended, by what their servers wrote down, and what deployer says."""

from collections import Counter
from dataclasses import dataclass, field

from deployer.models import Deployment, Target
from tests.chaos.world import LINES, World

Status = Target.Status
#: Ends of a server on which the script of the deployment was never begun.
UNTOUCHED = {Status.SKIPPED, Status.CANCELLED}


@dataclass
class Truth:
    """What was found: each wrong thing as a sentence, and counts."""

    wrong: list[str] = field(default_factory=list)
    twice: int = 0
    lines: int = 0
    lost: int = 0
    doubled: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    servers: Counter[str] = field(default_factory=Counter)
    shared: int = 0


def truth_of(world: World) -> Truth:
    """Compare what deployer says with the ledgers of the servers."""
    found = Truth()
    ran = {server: _ran(path.read_text() if path.exists() else "") for server, path in world.ledgers.items()}
    for deployment in Deployment.objects.defer("plan").order_by("pk"):
        found.ends[deployment.status] += 1
        found.shared += deployment.log_lines.filter(content__contains=" slices: ").exists()
        targets = [*deployment.targets.all()]
        for target in targets:
            found.servers[target.status] += 1
            _judge(found, deployment, target, ran[target.server_id or 0])
        is_well = all(target.status == Status.SUCCESS for target in targets)
        if (deployment.status == "success") is not is_well:
            ends = [target.status for target in targets]
            found.wrong.append(f"{deployment}: {deployment.status}, its servers: {ends}: {deployment.error_message}")
        numbers = [*deployment.log_lines.order_by("id").values_list("number", flat=True)]
        if numbers != [*range(1, len(numbers) + 1)]:
            found.wrong.append(f"{deployment}: its lines are not numbered in their order")
    return found


def _ran(ledger: str) -> Counter[tuple[int, str]]:
    """How often a script was begun, by the number of the deployment and what was done."""
    words = (line.split() for line in ledger.splitlines())
    return Counter((int(number), action) for number, action in words)


def _judge(found: Truth, deployment: Deployment, target: Target, ran: Counter[tuple[int, str]]) -> None:
    what = f"{deployment}, {target}: {target.status}"
    begun = [count for (number, _action), count in ran.items() if number == deployment.pk]
    if any(count > 1 for count in begun):
        found.twice += 1
        found.wrong.append(f"{what}: its script has run {begun} times")
    if target.status == Status.SUCCESS and not begun:
        found.wrong.append(f"{what}: its script has never run")
    if target.status in UNTOUCHED and begun:
        found.wrong.append(f"{what}: its script has run")
    said = [*target.log_lines.filter(stream="stdout").order_by("id").values_list("content", flat=True)]
    lines = [int(line) for line in said if line.isdecimal()]
    found.lines += len(lines)
    found.doubled += len(lines) - len({*lines})
    if target.status == Status.SUCCESS:
        found.lost += LINES - len({*lines})
        if lines != [*range(1, LINES + 1)]:
            found.wrong.append(f"{what}: {len(lines)} lines, {len({*lines})} of {LINES} once")
    elif lines != [*range(1, len(lines) + 1)]:
        found.wrong.append(f"{what}: its lines have gaps, or come twice")
