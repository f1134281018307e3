"""The matrix: every fault at every phase of both types of deployment, what must be true afterwards, and the check."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from django.conf import settings
from django.db import connections

from deployer.models import Deployment, Release, Target
from deployer.releases.workfolders import sweep_folders
from tests.factories import make_server
from tests.faults.world import FLOOD, LINES, World, pause
from tests.parts.postgres import PostgresServer
from tests.parts.programs import kill_all, processes_running, wait_until
from tests.parts.queue import QueueServer
from tests.parts.worker import freeze_workers, wake_workers

FULL, RESTART_ONLY = Deployment.Type.FULL.value, Deployment.Type.RESTART_ONLY.value
HERE = ("cloning", "building")
THERE = {
    FULL: ("staging", "unpacking", "switching", "switched", "restarting", "checking"),
    RESTART_ONLY: ("restarting", "checking"),
}
#: A script has printed far more than is read yet.
FLOODING = "flooding"
#: Phases in which a step of the project runs; until the last of the first ones, nothing is switched.
BEFORE_THE_SWITCH, BEHIND_IT = ("prepare", "before_all", "before"), ("after", "after_all")
STEPS = (*BEFORE_THE_SWITCH, *BEHIND_IT)
BEFORE_ALL_FAILS = "before all fails"
#: The new content of a config file is checked beside the old one.
FILES = "files"
#: The processes that a cancel has to end: shell text around `PROGRAM`, a command that would run for hours.
TREES = {
    "child": "PROGRAM",
    "new session": "setsid PROGRAM & wait",
    "ignores TERM": "trap '' TERM; PROGRAM & while :; do wait; sleep 0.1; done",
    "respawn loop": "while :; do PROGRAM; done",
    "respawns when told to end": "trap 'setsid PROGRAM &' TERM; PROGRAM & while :; do wait; sleep 0.1; done",
    "stopped": "PROGRAM & kill -STOP $!; wait",
    "pipeline": "PROGRAM | PROGRAM | PROGRAM",
    "double fork": "( ( PROGRAM & ) & ); wait; sleep 3600",
    "new session, empty environment": "env -i setsid PROGRAM & wait",
}
#: What cannot be found on a server any more: it left its session, its parents and its environment.
OUT_OF_REACH = "new session, empty environment"


class Cell(NamedTuple):
    """One fault at one phase of one type of deployment."""

    fault: str
    phase: str
    type: str

    def __str__(self) -> str:
        return f"{self.fault} · {self.phase} · {self.type}"


@dataclass
class Outcome:
    """What became of a cell; it survived when there are no ``problems``."""

    cell: Cell
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0
    lines: int = 0
    lost: int = 0
    doubled: int = 0
    executed_twice: int = 0
    left: int = 0
    out_of_reach: int = 0
    #: Why it was not run; empty when it was.
    not_run: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


# --- faults ------------------------------------------------------------------------------------------

#: Given the world and the deployment at the gate: do it, and open the gate at the moment that is meant.
Fault = Callable[["Scene"], None]


@dataclass
class Scene:
    """A deployment that waits at the gate of a phase."""

    world: World
    deployment: Deployment
    phase: str
    #: Set by faults that freeze a worker: what wakes it, once another one has ended the deployment, and sees it done.
    wake: Callable[[], None] | None = None

    def go_on(self) -> None:
        """Open the gate, after a moment."""
        pause(self.world.chance, 0.3)
        self.world.let_go(self.phase)

    @property
    def horse(self) -> int:
        return self.world.workers[0].horse


def reset(scene: Scene) -> None:
    scene.world.proxy.strike("reset")
    scene.go_on()


def fin(scene: Scene) -> None:
    scene.world.proxy.strike("fin")
    scene.go_on()


def freeze(scene: Scene) -> None:
    scene.world.proxy.strike("freeze")
    scene.go_on()


def delay(scene: Scene) -> None:
    scene.world.proxy.delay = 0.15
    scene.go_on()


def flapping(scene: Scene) -> None:
    """Cut now and again: five times while a script runs, else twice (an upload begins anew only so often)."""
    times = 5 if scene.phase == "restarting" else 1
    scene.world.proxy.strike_next("reset", *(scene.world.chance.randint(2000, 12_000) for _ in range(times)))
    scene.world.proxy.strike("reset")
    scene.go_on()


def sshd_restarted(scene: Scene) -> None:
    scene.world.sshd.restart()
    scene.go_on()


def horse_killed(scene: Scene) -> None:
    scene.world.workers[0].kill_horse()
    scene.world.let_go(scene.phase)


def worker_killed(scene: Scene) -> None:
    """With everything it had running, as when its machine is lost; another one finds it."""
    world, horse = scene.world, scene.horse
    world.workers[0].kill()
    kill_all([horse])
    world.let_go(scene.phase)
    world.grow_old(scene.deployment)
    world.start_worker()


def worker_killed_alone(scene: Scene) -> None:
    """Its work horse lives on, and must be the only one that carries the deployment out."""
    scene.world.workers[0].kill()
    scene.world.start_worker()
    scene.go_on()


def all_asked_to_stop(scene: Scene) -> None:
    """The worker and all that it has started, as by systemd's default; it finishes what it holds and takes no more."""
    for pid in scene.world.workers[0].processes:
        os.kill(pid, signal.SIGTERM)
    scene.go_on()


def worker_frozen(scene: Scene) -> None:
    world, worker = scene.world, scene.world.workers[0]
    frozen = [worker.process.pid, scene.horse]
    freeze_workers(*frozen)
    world.let_go(scene.phase)
    world.grow_old(scene.deployment)
    world.start_worker()

    def wake() -> None:
        wake_workers(*frozen)
        wait_until(lambda: worker.is_idle, "the worker that was frozen to be done")

    scene.wake = wake


def queue_stopped(scene: Scene) -> None:
    scene.world.queue.stop()
    time.sleep(3)
    scene.world.queue.start()
    scene.go_on()


def queue_killed(scene: Scene) -> None:
    scene.world.queue.kill()
    scene.world.queue.start()
    scene.go_on()


def queue_emptied(scene: Scene) -> None:
    scene.world.queue.client.flushall()
    scene.go_on()


def database_stopped(postgres: PostgresServer) -> Fault:
    """The database is away for a while, all connections cut; the phase ends meanwhile."""

    def fault(scene: Scene) -> None:
        postgres.stop()
        scene.go_on()
        time.sleep(20 if scene.phase in ("building", "restarting") else 5)
        postgres.start()
        connections.close_all()  # ours were cut too

    return fault


LINK: dict[str, Fault] = {
    "link reset": reset,
    "link closed": fin,
    "link frozen": freeze,
    "link slow": delay,
    "link flapping": flapping,
    "sshd restarted": sshd_restarted,
}
WORKER: dict[str, Fault] = {
    "work horse killed": horse_killed,
    "worker killed with its horse": worker_killed,
    "worker killed, horse alive": worker_killed_alone,
    "worker frozen, then awake": worker_frozen,
}
STOP: dict[str, Fault] = {"worker and horse asked to stop": all_asked_to_stop}
QUEUE: dict[str, Fault] = {
    "queue stopped for 3 s": queue_stopped,
    "queue killed": queue_killed,
    "queue emptied": queue_emptied,
}
DATABASE = "database stopped for 5 to 20 s"
PLACE_TWICE = "one machine under two names"


def file_emptied(release: Path) -> None:
    (release / "m").write_bytes(b"")


def file_edited(release: Path) -> None:
    """To the same size, so that only its time tells."""
    size = (release / "m").stat().st_size
    (release / "m").write_bytes(os.urandom(size))


def half_deleted(release: Path) -> None:
    """As a clean-up leaves it that may not delete everything."""
    for name in ("m", "z", "index.html"):
        (release / name).unlink()
    (release / "cache").mkdir()
    (release / "cache" / "x").touch()


def another_kind(release: Path) -> None:
    (release / "m").unlink()
    (release / "m").mkdir()
    (release / "m" / "x").touch()


#: What hands do to a release that is on the server.
HANDS: dict[str, Callable[[Path], None]] = {
    "file emptied by hand": file_emptied,
    "file edited by hand": file_edited,
    "release half deleted": half_deleted,
    "folder for a file": another_kind,
    "release deleted": shutil.rmtree,
}
#: A server that opens one session at a time, and far away.
FEW = "MaxSessions 1"


def matrix() -> Iterator[Cell]:
    """Every cell that runs on either database."""
    for type_ in (FULL, RESTART_ONLY):
        for fault in LINK:
            yield from (Cell(fault, phase, type_) for phase in ("connect", *THERE[type_]))
        for fault in WORKER:
            here = HERE if type_ == FULL else ()
            yield from (Cell(fault, phase, type_) for phase in (*here, *THERE[type_]))
        for fault in STOP:
            yield from (Cell(fault, phase, type_) for phase in THERE[type_])
        for fault in QUEUE:
            busy = ("building", "staging", "restarting") if type_ == FULL else ("restarting",)
            yield from (Cell(fault, phase, type_) for phase in ("waiting", *busy))
    for fault in (*LINK, *WORKER, "queue emptied"):
        yield Cell(fault, FLOODING, RESTART_ONLY)
    for fault in (*LINK, *WORKER, *STOP):
        yield from (Cell(fault, phase, FULL) for phase in STEPS)
    for type_ in (FULL, RESTART_ONLY):
        yield from (Cell(fault, FILES, type_) for fault in (*LINK, *WORKER, *STOP))
    for how in ("", ", work horse killed", ", link reset"):
        yield Cell(f"{BEFORE_ALL_FAILS}{how}", "before_all", FULL)
    yield Cell("disk full", "staging", FULL)
    for hand in HANDS:
        yield from (Cell(hand, phase, FULL) for phase in ("staging", "unpacking"))
    for type_ in (FULL, RESTART_ONLY):
        yield Cell(PLACE_TWICE, "restarting", type_)
        yield Cell(f"{PLACE_TWICE}, work horse killed", "restarting", type_)
    for tree in TREES:
        yield Cell(f"cancel: {tree}", "building", FULL)
        yield Cell(f"force: {tree}", "restarting", RESTART_ONLY)
    yield Cell("force", "checking", RESTART_ONLY)
    yield Cell("cancel", "restarting", RESTART_ONLY)
    yield Cell(FEW, "staging", FULL)
    yield Cell(f"force: {FEW}", "restarting", RESTART_ONLY)


def database_matrix() -> Iterator[Cell]:
    """The cells that need a PostgreSQL server of their own."""
    for phase in (*HERE, "staging", "switching", "restarting", "checking"):
        yield Cell(DATABASE, phase, FULL)
    yield Cell(DATABASE, "restarting", RESTART_ONLY)
    yield Cell(DATABASE, FLOODING, RESTART_ONLY)


# --- running a cell ----------------------------------------------------------------------------------


def run(cell: Cell, seed: int, queue: QueueServer, postgres: PostgresServer | None = None) -> Outcome:
    """Let it happen, then look whether everything that deployer says is true."""
    outcome = Outcome(cell)
    if cell.fault == "disk full" and os.getuid() != 0:
        outcome.not_run = "a small file system can be mounted by root only"
        return outcome
    world = World(queue, random.Random(f"{seed} {cell}"), FEW if FEW in cell.fault else "")
    try:
        if cell.fault.startswith(("cancel", "force")):
            _cancel(cell, world, outcome)
        elif cell.fault == "disk full":
            _disk_full(world, outcome)
        elif cell.fault in HANDS:
            _changed_by_hand(cell, world, outcome)
        elif cell.fault.startswith(PLACE_TWICE):
            _place_twice(cell, world, outcome)
        elif cell.fault.startswith(BEFORE_ALL_FAILS):
            _before_all_fails(cell, world, outcome)
        elif cell.fault == FEW:
            _few_sessions(cell, world, outcome)
        else:
            _strike(cell, world, outcome, postgres)
    except AssertionError as error:
        outcome.problems.append(str(error))
    finally:
        world.close()
    return outcome


def _strike(cell: Cell, world: World, outcome: Outcome, postgres: PostgresServer | None) -> None:
    faults = {**LINK, **WORKER, **STOP, **QUEUE} | ({DATABASE: database_stopped(postgres)} if postgres else {})
    fault = faults[cell.fault]
    world.make_project(cell.type, lines=FLOOD if cell.phase == FLOODING else LINES)
    if cell.phase in STEPS:
        world.add_steps()
    if cell.phase == FILES:
        world.add_file()
    world.next_release()
    world.watch_current()
    world.start_worker()
    if cell.phase == FLOODING:
        deployment = world.launch()
        wait_until(deployment.log_lines.filter(number__gt=FLOOD // 10).exists, "the flood")
        scene = Scene(world, deployment, cell.phase)
        begun = time.monotonic()
        fault(scene)
    elif cell.phase == "connect":
        deployment = _strike_connect(cell, world)
        begun = time.monotonic()
        scene = Scene(world, deployment, cell.phase)
    elif cell.phase == "waiting":
        begun = time.monotonic()
        deployment = _strike_queue(cell, world)
        scene = Scene(world, deployment, cell.phase)
    else:
        world.hold(cell.phase)
        deployment = world.launch()
        world.wait_for(cell.phase)
        pause(world.chance, 0.2)
        scene = Scene(world, deployment, cell.phase)
        begun = time.monotonic()
        fault(scene)
    world.wait_for_end(deployment)
    outcome.seconds = time.monotonic() - begun
    look(cell, world, deployment, outcome)
    if scene.wake is not None:
        before = _everything(world, deployment)
        scene.wake()
        if (after := _everything(world, deployment)) != before:
            outcome.problems.append(f"the frozen worker acted when it woke up: {before} became {after}")
    if cell.phase == FLOODING:
        world.proxy.strike("reset")  # what prints into a link that nobody reads waits for as long as the link is there
        _look_at_programs(world, outcome)
    _again(world, outcome)


def _strike_connect(cell: Cell, world: World) -> Deployment:
    """The link is struck within the login: somewhere in its first bytes."""
    after = world.chance.randint(1, 4000)
    if cell.fault == "link slow":
        world.proxy.delay = 0.15
    elif cell.fault == "sshd restarted":
        world.sshd.stop()
        deployment = world.launch()
        wait_until(lambda: world.proxy.refused, "the first attempt")
        world.proxy.holds_callers = True  # a login is tried again for some seconds only, and sshd may need longer
        world.sshd.start()
        return deployment
    elif cell.fault == "link flapping":
        world.proxy.strike_next("reset", *(world.chance.randint(1, 4000) for _ in range(3)))
    else:
        blow = {"link reset": "reset", "link closed": "fin", "link frozen": "freeze"}[cell.fault]
        world.proxy.strike_next(blow, after)  # type: ignore[arg-type]  # one of the three
    return world.launch()


def _strike_queue(cell: Cell, world: World) -> Deployment:
    """Between the launch and the moment a worker would take it."""
    worker = world.workers[0]
    freeze_workers(worker.process.pid)
    if cell.fault == "queue stopped for 3 s":
        world.queue.stop()
        deployment = world.launch()
        time.sleep(3)
        world.queue.start()
    else:
        deployment = world.launch()
        if cell.fault == "queue killed":
            world.queue.kill()
            world.queue.start()
        else:
            world.queue.client.flushall()
    wake_workers(worker.process.pid)
    world.grow_old(deployment)
    return deployment


def _everything(world: World, deployment: Deployment) -> dict[str, Any]:
    """What a worker could change, in the database and on the server."""
    return {
        "deployment": Deployment.objects.values("status", "error_message", "claim", "heartbeat_at").get(
            pk=deployment.pk
        ),
        "target": deployment.targets.values("status", "error", "exit_code", "release_after").get(),
        "lines": deployment.log_lines.count(),
        "ledger": world.ledger(deployment),
        "live": world.live,
    }


def _again(world: World, outcome: Outcome) -> None:
    """A new launch works, whatever happened before."""
    world.proxy.delay = 0.0
    world.next_release()
    deployment = world.launch()
    world.wait_for_end(deployment)
    if deployment.status != Deployment.Status.SUCCESS:
        outcome.problems.append(f"the next launch: {deployment.status}: {deployment.error_message}")
    sweep_folders(lambda _claim: False)
    if left := [path.name for path in settings.BUILDS_DIR.glob("*-*")]:
        outcome.problems.append(f"left on deployer's machine: {', '.join(left)}")


# --- looking -----------------------------------------------------------------------------------------


def expected(cell: Cell) -> set[str]:
    """The statuses that a target may have in the end.

    A fault of the link, the queue or the database stops nothing. A lost worker stops what had not begun;
    a script that had begun is followed to its end.
    """
    lost_worker = cell.fault in WORKER and cell.fault != "worker killed, horse alive"
    if cell.fault == "link frozen" and cell.phase == "connect":
        return {Target.Status.SUCCESS, Target.Status.FAILED}  # silence before the login is not waited for twice
    if not lost_worker or cell.phase in ("restarting", "checking", FLOODING, *BEHIND_IT):
        return {Target.Status.SUCCESS}
    if cell.phase in ("switching", "switched"):
        return {Target.Status.FAILED, Target.Status.SKIPPED}
    return {Target.Status.SKIPPED}


def look(cell: Cell, world: World, deployment: Deployment, outcome: Outcome) -> None:
    """Compare what deployer says with what the script wrote, what ``current`` leads to and what runs."""
    target = deployment.targets.get()
    said = f"{deployment.status}/{target.status} ({deployment.error_message or target.error or '-'})"
    complain = outcome.problems.append
    if target.status not in Target.ENDED:
        complain(f"a target without an end: {said}")
    elif target.status not in expected(cell):
        complain(f"ended as {said}")
    if deployment.status != Deployment.Status.SUCCESS and not (deployment.error_message and target.error):
        complain(f"an end without a sentence: {said}")
    ledger = world.ledger(deployment)
    outcome.executed_twice = max(ledger.count("begun") - 1, 0)
    if outcome.executed_twice:
        complain(f"the script ran {ledger.count('begun')} times")
    truth = {
        Target.Status.SUCCESS: ledger == ["begun", "ended"] and target.exit_code == 0,
        Target.Status.SKIPPED: ledger == [],
        Target.Status.CANCELLED: "ended" not in ledger,
        Target.Status.FAILED: target.exit_code is not None or ledger == [],
    }
    if not truth.get(Target.Status(target.status), True):
        complain(f"{said}, but the script has {ledger}")
    if world.torn:
        complain(f"current was not one whole release for {world.torn} reads")
    if world.live != world.restarted_release():
        complain(f"{said}, but current leads to {world.live} and {world.restarted_release()} was started")
    if target.status == Target.Status.SUCCESS:
        _look_at_lines(target, outcome, FLOOD if cell.phase == FLOODING else LINES)
        if len(processes_running(world.app)) != 1:
            complain(f"{len(processes_running(world.app))} applications run")
    if cell.phase in STEPS:
        _look_at_steps(world, deployment, outcome)
    if cell.phase == FILES:
        wanted = "after" if target.status == Target.Status.SUCCESS else "before"
        if world.file != wanted:
            complain(f"{said}, but the config file is {world.file}")
    if cell.phase != FLOODING:
        _look_at_programs(world, outcome)


def _look_at_steps(world: World, deployment: Deployment, outcome: Outcome) -> None:
    """Compare what is written down of the steps with what they wrote themselves."""
    ran, complain = world.steps(deployment), outcome.problems.append
    if twice := len(ran) - len(set(ran)):
        outcome.executed_twice += twice
        complain(f"steps ran twice: {ran}")
    said = dict(deployment.step_runs.values_list("step", "status"))
    if {step for step, status in said.items() if status in {"done", "failed"}} != set(ran):
        complain(f"steps {ran} have run, and {said} is said")
    target = deployment.targets.get()
    if ("after" in ran) != ("before" in ran) or target.kept_out:
        complain(f"drained and not put back: {ran}, {target.kept_out or 'and nothing is said'}")
    if "before_all" in ran and "after_all" not in ran:
        complain(f"nothing came after all: {ran}")


def _look_at_programs(world: World, outcome: Outcome) -> None:
    if left := _left(world):
        outcome.left = left
        outcome.problems.append(f"{left} programs were left on the server")


def _look_at_lines(target: Target, outcome: Outcome, lines: int) -> None:
    wanted = [str(number) for number in range(1, lines + 1)]
    for stream in ("stdout", "stderr"):
        have = list(target.log_lines.filter(stream=stream).order_by("id").values_list("content", flat=True))
        outcome.lines += lines
        outcome.lost += len(set(wanted) - set(have))
        outcome.doubled += max(len(have) - len(set(have)), 0)
        if have != wanted:
            outcome.problems.append(f"{stream} has {len(have)} lines, {len(set(wanted) - set(have))} of {lines} lost")


def _left(world: World, patience: float = 30.0) -> int:
    """How many programs of the deployment still run on the server a moment later."""
    until = time.monotonic() + patience
    while (left := world.strangers()) and time.monotonic() < until:
        time.sleep(0.1)
    return len(left)


# --- cells of other kinds ----------------------------------------------------------------------------


def _disk_full(world: World, outcome: Outcome) -> None:
    world.make_project(FULL)
    place = world.folder / "srv"
    small = world.folder / "small"
    place.rename(small)
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], check=True)
    try:
        subprocess.run(["cp", "-a", f"{small}/.", str(place)], check=True)
        world.next_release()
        world.watch_current()
        world.start_worker()
        begun = time.monotonic()
        deployment = world.launch()
        world.wait_for_end(deployment)
        outcome.seconds = time.monotonic() - begun
        target = deployment.targets.get()
        if (deployment.status, target.status) != ("failed", "failed") or "No space left" not in target.error:
            outcome.problems.append(f"ended as {deployment.status}/{target.status}: {target.error}")
        if world.ledger(deployment) or world.torn or world.live != world.restarted_release():
            outcome.problems.append(f"{world.ledger(deployment)}, torn {world.torn}, live {world.live}")
        subprocess.run(["mount", "-o", "remount,size=50m", str(place)], check=True)
        _again(world, outcome)
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def _changed_by_hand(cell: Cell, world: World, outcome: Outcome) -> None:
    """Somebody lays hands on a release that then goes live again; at a gate, the worker is killed while it mends."""
    world.make_project(FULL)
    first = Release.objects.get(project=world.project)
    world.start_worker()
    world.next_release()
    world.wait_for_end(world.launch())
    world.watch_current()
    release = world.folder / "srv" / "releases" / first.version
    before = _contents(release)
    HANDS[cell.fault](release)
    begun = time.monotonic()
    if cell.phase == "unpacking":
        world.hold(cell.phase)
        interrupted = world.launch(first)
        world.wait_for(cell.phase)
        horse_killed(Scene(world, interrupted, cell.phase))
        world.wait_for_end(interrupted)
        if (ledger := world.ledger(interrupted)) or interrupted.targets.get().status != Target.Status.SKIPPED:
            outcome.problems.append(f"interrupted, it ended as {interrupted.targets.get().status}: {ledger}")
    deployment = world.launch(first)
    world.wait_for_end(deployment)
    outcome.seconds = time.monotonic() - begun
    look(cell, world, deployment, outcome)
    have = {name: data for name, data in _contents(release).items() if name in before}
    if world.live != first.version or have != before:
        changed = [name for name in before if have.get(name) != before[name]]
        outcome.problems.append(f"{world.live} is live, and {', '.join(changed) or 'nothing'} of {first} differs")
    _again(world, outcome)


def _contents(release: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in release.iterdir() if path.is_file()}


def _place_twice(cell: Cell, world: World, outcome: Outcome) -> None:
    """The machine is in the inventory a second time, under another name."""
    world.make_project(cell.type)
    world.group.servers.add(make_server(world.sshd, port=world.proxy.port, host="localhost"))
    world.next_release()
    world.watch_current()
    world.start_worker()
    world.hold(cell.phase)
    deployment = world.launch()
    world.wait_for(cell.phase)
    begun = time.monotonic()
    if cell.fault != PLACE_TWICE:
        horse_killed(Scene(world, deployment, cell.phase))
    world.let_go(cell.phase)
    world.wait_for_end(deployment)
    outcome.seconds = time.monotonic() - begun
    ends = set(deployment.targets.values_list("status", "release_after", "exit_code"))
    if len(ends) != 1 or {end[0] for end in ends} != {Target.Status.SUCCESS}:
        outcome.problems.append(f"{deployment.status}: {ends}: {deployment.error_message}")
    ledger = world.ledger(deployment)
    outcome.executed_twice = max(ledger.count("begun") - 1, 0)
    if ledger != ["begun", "ended"] or world.torn or world.live != world.restarted_release():
        outcome.problems.append(f"the script has {ledger}, current was torn {world.torn} times and is {world.live}")


def _before_all_fails(cell: Cell, world: World, outcome: Outcome) -> None:
    """The step before all fails, and its worker or its link may be lost meanwhile: nothing is switched."""
    world.make_project(cell.type)
    world.add_steps(failing="before_all")
    world.next_release()
    world.watch_current()
    world.start_worker()
    world.hold(cell.phase)
    before, deployment = world.live, world.launch()
    world.wait_for(cell.phase)
    begun = time.monotonic()
    how = cell.fault.partition(", ")[2]
    {**WORKER, **LINK}.get(how, Scene.go_on)(Scene(world, deployment, cell.phase))
    world.wait_for_end(deployment)
    outcome.seconds = time.monotonic() - begun
    target = deployment.targets.get()
    if (deployment.status, target.status) != ("failed", "skipped") or world.ledger(deployment):
        outcome.problems.append(f"ended as {deployment.status}/{target.status}: {deployment.error_message}")
    if world.torn or world.live != before:
        outcome.problems.append(f"{world.live} is live, and current was torn {world.torn} times")
    _look_at_steps(world, deployment, outcome)
    world.add_steps()
    _again(world, outcome)


def _few_sessions(cell: Cell, world: World, outcome: Outcome) -> None:
    """An upload that would go in several streams goes in one, and nobody calls the link lost."""
    world.make_project(cell.type)
    world.size = 9_000_000
    world.proxy.delay = 0.02
    world.next_release()
    world.watch_current()
    world.start_worker()
    begun = time.monotonic()
    deployment = world.launch()
    world.wait_for_end(deployment)
    outcome.seconds = time.monotonic() - begun
    look(cell, world, deployment, outcome)
    if lost := deployment.log_lines.filter(content__contains="was lost").first():
        outcome.problems.append(lost.content)
    _again(world, outcome)


def _cancel(cell: Cell, world: World, outcome: Outcome) -> None:
    """Cancel or force while processes of a kind run; none may be left, and the application must live."""
    kind = "child" if FEW in cell.fault else cell.fault.partition(": ")[2]
    forever = f"sleep 7{world.chance.randrange(10**8):08}"
    script = f"{world.folder}/bin/gate {cell.phase}\n{TREES[kind].replace('PROGRAM', forever)}" if kind else ""
    in_build = cell.phase == "building"
    world.make_project(cell.type, script="" if in_build else script, build_script=script if in_build else "")
    world.start_worker()
    if not kind:
        world.hold(cell.phase)
    deployment = world.launch()
    world.wait_for(cell.phase)
    pause(world.chance, 1.0)
    begun = time.monotonic()
    deployment.request_cancel(force=cell.fault.startswith("force"))
    if not kind:
        world.let_go(cell.phase)
    world.wait_for_end(deployment)
    outcome.seconds = time.monotonic() - begun
    target = deployment.targets.get()
    if kind and (deployment.status, target.status) != ("cancelled", "cancelled"):
        outcome.problems.append(f"ended as {deployment.status}/{target.status}: {deployment.error_message}")
    if not kind:
        look(cell, world, deployment, outcome)
    left = processes_running(forever)
    if kind == OUT_OF_REACH and not in_build:
        outcome.out_of_reach = len(left)
    else:
        outcome.left = len(left)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    if outcome.left:
        outcome.problems.append(f"{outcome.left} processes were left")
    if in_build:
        world.project.build_script = ""
        world.project.save()
    elif kind:
        (world.folder / "restart.sh").write_text("echo fine\n")
    _again(world, outcome)
