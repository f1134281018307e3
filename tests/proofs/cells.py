"""The table: what happens to which service, what is right to be said of it, and the comparison with the truth."""

import os
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deployer.models import Deployment
from projects.commands.proof import Proof
from tests.proofs.machines import Process
from tests.proofs.parts import CannotRunError, MissingError
from tests.proofs.world import Serves, Truth, World

if TYPE_CHECKING:
    from tests.proofs.logs import LogCell

REPLACED, UNCHANGED, RELOADED, DEAD = "replaced", "unchanged", "reloaded", "dead"
CRASH_LOOPING, UNKNOWN = "crash-looping", "unknown"
STOPPED, STILL_RUNNING, RUNNING = "stopped", "still-running", "running"
#: Of what is started again and again, both are true.
ENDING = f"{DEAD} or {CRASH_LOOPING}"
#: The status that a server deserves, by its verdict.
STATUSES = {
    REPLACED: "success",
    RELOADED: "success",
    UNKNOWN: "success",
    UNCHANGED: "unchanged",
    DEAD: "failed",
    CRASH_LOOPING: "failed",
    ENDING: "failed",
    STOPPED: "success",
    RUNNING: "success",
    "": "failed",
}


@dataclass(frozen=True)
class Cell:
    """One thing that happens to one service.

    The service is started by the words of ``begin``, and ``beside`` starts others that look like it. Then the code
    becomes ``code``, and a deployment runs a script of the words of ``does``. ``serves`` is what must then be true,
    ``verdict`` what is right to be said of it. ``name`` is the process name as somebody types it, ``check`` a health
    check (``KIND TARGET``), ``reloads`` and ``watch_for`` are settings of the project. With a ``kind`` of service, the
    ``name`` is its name, in which ``{folder}`` and ``{port}`` are those of the service. ``by`` says what restarts it: a
    script on the server, a ``text`` that the project keeps, or the kind of service by itself (``own``). With
    ``drains``, what is asked to end does so only after so many seconds. ``launch`` is the type of a deployment that
    only stops or starts it; ``first`` are words that are done by hand before that.
    """

    service: str
    event: str
    does: str
    serves: Serves
    verdict: str
    name: str = ""
    check: str = ""
    code: str = "v2"
    begin: str = "start"
    beside: str = ""
    reloads: bool = False
    watch_for: int = 0
    kind: str = ""
    by: str = "script"
    drains: int = 0
    launch: str = ""
    first: str = ""
    #: What it is called in the table of services.
    row: str = ""
    #: What the evidence of its failure must show.
    shows: str = ""

    def __str__(self) -> str:
        found_by = f"{self.kind} {self.name}".strip() or self.check
        return f"{self.row or self.service} · {self.event} · {found_by}"

    @property
    def status(self) -> str:
        if self.launch == "stop" and self.verdict == UNKNOWN:
            return "failed"
        if self.verdict == STILL_RUNNING:
            return "unchanged" if self.serves == Serves.OLD else "failed"
        return STATUSES[self.verdict]

    @property
    def life(self) -> float:
        """For how many seconds the new code lives; 0 if for ever."""
        return float(self.code.partition(":")[2] or 0)


@dataclass
class Outcome:
    """What became of a cell; deployer was right when there are no ``problems``."""

    cell: "Cell | LogCell"
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0
    #: What was said: status, verdict and sentence.
    said: str = ""
    sentence: str = ""
    truth: str = ""
    #: Why it was not run; ``can_run`` says whether it could be, once what is missing is there.
    not_run: str = ""
    can_run: bool = True

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


# --- the rows ----------------------------------------------------------------------------------------

NEW, SAME, OLD, BOTH, FLAPPING, NOBODY = Serves


def table() -> Iterator[Cell]:
    """All cells."""
    yield from _python()
    for service in ("gunicorn", "gunicorn with setproctitle"):
        yield from _gunicorn(service)
    yield from _uwsgi()
    yield from _node()
    yield from _pm2()
    yield from _java()
    yield from _pages()
    yield from _supervisor()
    yield from _systemd()
    yield from _podman()


def _python() -> Iterator[Cell]:
    def cell(event: str, does: str, serves: Serves, verdict: str, **more: Any) -> Cell:
        return Cell("python", event, does, serves, verdict, **({"name": "server.py"} | more))

    again = "stop start"
    yield cell("good restart", again, NEW, REPLACED)
    yield cell("the old one was not stopped", "start", OLD, UNCHANGED)
    yield cell("nothing was done", "", OLD, UNCHANGED)
    yield cell("stopped only", "stop", NOBODY, DEAD)
    yield cell("died at import", again, NOBODY, DEAD, code="broken")
    yield cell("died after 3 s", again, NOBODY, DEAD, code="v2:3", watch_for=8)
    yield cell("died after 5 s", again, NOBODY, DEAD, code="v2:5", watch_for=8)
    yield cell("died while a check was asked", again, NOBODY, DEAD, code="v2:3", check="command sleep 4")
    loop, begin = "stop-loop start-loop", "start-loop"
    yield cell("restarted in its loop", loop, NEW, REPLACED, begin=begin)
    yield cell("loops, lives of 0.3 s", loop, FLAPPING, CRASH_LOOPING, begin=begin, code="v2:0.3", watch_for=8)
    yield cell("loops, lives of 1.3 s", loop, FLAPPING, CRASH_LOOPING, begin=begin, code="v2:1.3", watch_for=8)
    yield cell("loops at import", loop, NOBODY, ENDING, begin=begin, code="broken")
    yield cell("HUP, one process", "hup", SAME, UNKNOWN, reloads=True)
    yield cell("no reload, one process", "", OLD, UNKNOWN, reloads=True)
    yield cell("died of HUP", "hup", NOBODY, DEAD, reloads=True, code="broken")
    yield cell("restarted by a script that reloads", again, NEW, REPLACED, reloads=True)
    yield cell("another user has one too", again, NEW, REPLACED, beside="start-as-nobody")
    yield cell("died at import, another user has one", again, NOBODY, DEAD, beside="start-as-nobody", code="broken")

    def full(event: str, does: str, serves: Serves, verdict: str, **more: Any) -> Cell:
        return Cell("python, full deployment", event, does, serves, verdict, name="server.py", **more)

    yield full("good restart", again, NEW, REPLACED)
    yield full("nothing was done", "", OLD, UNCHANGED)
    yield full("died at import", again, NOBODY, DEAD, code="broken")
    yield full("died after 3 s", again, NOBODY, DEAD, code="v2:3", watch_for=8)

    def workers(event: str, does: str, serves: Serves, verdict: str, **more: Any) -> Cell:
        return Cell("python with workers", event, does, serves, verdict, name="server.py", **more)

    yield workers("HUP", "hup", SAME, RELOADED, reloads=True)
    yield workers("HUP with a broken version", "hup", OLD, UNCHANGED, reloads=True, code="broken")
    yield workers("no reload", "", OLD, UNCHANGED, reloads=True)


def _gunicorn(service: str) -> Iterator[Cell]:
    def cell(event: str, does: str, serves: Serves, verdict: str, **more: Any) -> Cell:
        return Cell(service, event, does, serves, verdict, **({"name": "gunicorn -w 2"} | more))

    again = "stop start"
    yield cell("good restart", again, NEW, REPLACED)
    yield cell("good restart", again, NEW, REPLACED, name="gunicorn")
    yield cell("the old one was not stopped", "start", OLD, UNCHANGED)
    yield cell("the old one was not stopped", "start", OLD, UNCHANGED, name="gunicorn")
    yield cell("nothing was done", "", OLD, UNCHANGED)
    yield cell("died at import", again, NOBODY, DEAD, code="broken")
    yield cell("died after 3 s", again, NOBODY, DEAD, code="v2:3", watch_for=8)
    yield cell("HUP", "hup", SAME, RELOADED, reloads=True)
    yield cell("HUP, meant to restart", "hup", SAME, UNCHANGED)
    yield cell("HUP with a broken version", "hup", NOBODY, DEAD, reloads=True, code="broken")
    yield cell("no reload", "", OLD, UNCHANGED, reloads=True)
    yield cell("USR2, two masters", "usr2", BOTH, UNCHANGED, reloads=True)
    yield cell("USR2, two masters", "usr2", BOTH, UNCHANGED, name="gunicorn")
    yield cell("USR2, then QUIT", "usr2 quit-old", NEW, REPLACED, name="gunicorn")


def _uwsgi() -> Iterator[Cell]:
    def cell(event: str, does: str, serves: Serves, verdict: str, **more: Any) -> Cell:
        return Cell("uwsgi", event, does, serves, verdict, **({"name": "uwsgi"} | more))

    yield cell("good restart", "stop start", NEW, REPLACED)
    yield cell("the old one was not stopped", "start", OLD, UNCHANGED)
    yield cell("nothing was done", "", OLD, UNCHANGED)
    yield cell("died at import", "stop start", NOBODY, DEAD, code="broken")
    yield cell("--reload in place", "reload", SAME, RELOADED, reloads=True)
    yield cell("--reload, meant to restart", "reload", SAME, RELOADED)  # it is executed anew
    yield cell("no reload", "", OLD, UNCHANGED, reloads=True)


def _node() -> Iterator[Cell]:
    def cell(event: str, does: str, serves: Serves, verdict: str, **more: Any) -> Cell:
        return Cell("node", event, does, serves, verdict, **({"name": "server.js"} | more))

    again = "stop start"
    yield cell("good restart", again, NEW, REPLACED)
    yield cell("good restart", again, NEW, REPLACED, name="node server.js")
    yield cell("the old one was not stopped", "start", OLD, UNCHANGED)
    yield cell("nothing was done", "", OLD, UNCHANGED)
    yield cell("died at import", again, NOBODY, DEAD, code="broken")
    yield cell("died after 3 s", again, NOBODY, DEAD, code="v2:3", watch_for=8)
    yield cell("good restart, tail on its log", again, NEW, REPLACED, beside="tail")
    yield cell("died at import, tail on its log", again, NOBODY, DEAD, beside="tail", code="broken")
    yield cell("died at import, the script starts a tail", f"{again} tail", NOBODY, DEAD, code="broken")
    yield cell("good restart, vi on the file", again, NEW, REPLACED, beside="edit")
    yield cell("good restart, less on the file", again, NEW, REPLACED, beside="read")
    yield cell("died at import, vi on the file", again, NOBODY, DEAD, beside="edit", code="broken")
    yield cell("another one in another folder", again, NEW, REPLACED, beside="start-other")
    yield cell("another one in another folder", again, NEW, REPLACED, beside="start-other", name="node server.js")
    yield cell("the other folder's was restarted", "restart-other", OLD, UNCHANGED, beside="start-other")
    yield cell("died at import, another one lives", again, NOBODY, DEAD, beside="start-other", code="broken")
    yield cell("killed in its shell loop", "kill-in-loop", NEW, REPLACED, begin="start-loop")
    yield cell("dies in its shell loop", "kill-in-loop", NOBODY, ENDING, begin="start-loop", code="broken")
    yield cell(
        "dies slowly in its shell loop",
        "kill-in-loop",
        FLAPPING,
        CRASH_LOOPING,
        begin="start-loop",
        code="v2:1.3",
        watch_for=8,
    )


def _pm2() -> Iterator[Cell]:
    def cell(event: str, does: str, serves: Serves, verdict: str, **more: Any) -> Cell:
        return Cell("pm2", event, does, serves, verdict, **({"name": "server.js"} | more))

    yield cell("good restart", "restart", NEW, REPLACED)
    yield cell("good restart", "restart", NEW, REPLACED, name="node server.js")
    yield cell("nothing was done", "", OLD, UNCHANGED)
    yield cell("nothing was done", "", OLD, UNCHANGED, name="node server.js")
    yield cell("stopped only", "stop", NOBODY, DEAD)
    yield cell("died at import", "restart", NOBODY, ENDING, code="broken")
    yield cell("died after 3 s", "restart", FLAPPING, ENDING, code="v2:3", watch_for=8)
    yield cell("cluster, reload", "reload", NEW, REPLACED, begin="start-cluster")
    yield cell("cluster, nothing was done", "", OLD, UNCHANGED, begin="start-cluster")


def _java() -> Iterator[Cell]:
    def cell(event: str, does: str, serves: Serves, verdict: str, **more: Any) -> Cell:
        return Cell("java", event, does, serves, verdict, **({"name": "-jar shop"} | more))

    yield cell("good restart", "stop start", NEW, REPLACED)
    yield cell("the old one was not stopped", "start", OLD, UNCHANGED)
    yield cell("died at the start", "stop start", NOBODY, DEAD, code="broken")
    yield cell("died after 5 s", "stop start", NOBODY, DEAD, code="v2:5", watch_for=8)


def _pages() -> Iterator[Cell]:
    for service in ("nginx", "php-fpm"):

        def cell(event: str, does: str, serves: Serves, verdict: str, service: str = service, **more: Any) -> Cell:
            return Cell(service, event, does, serves, verdict, name=service, **more)

        yield cell("good restart", "stop start", NEW, REPLACED)
        yield cell("the old one was not stopped", "start", OLD, UNCHANGED)
        yield cell("restart with a broken configuration", "stop start", NOBODY, DEAD, code="broken")
        yield cell("reload", "reload", SAME, RELOADED, reloads=True)
        anew = service == "php-fpm"  # it executes itself anew; nginx starts workers only
        yield cell("reload, meant to restart", "reload", SAME, RELOADED if anew else UNCHANGED)
        yield cell("no reload", "", OLD, UNCHANGED, reloads=True)
    broken = "reload with a broken configuration"
    yield Cell("nginx", broken, "reload", OLD, UNCHANGED, "nginx", reloads=True, code="broken")
    yield Cell("php-fpm", broken, "reload", NOBODY, DEAD, "php-fpm", reloads=True, code="broken")
    yield Cell("php-fpm", "reload of a daemon", "reload", NEW, REPLACED, "php-fpm", reloads=True, begin="start-daemon")


def _supervisor() -> Iterator[Cell]:
    def cell(event: str, does: str, serves: Serves, verdict: str, **more: Any) -> Cell:
        return Cell("supervisor", event, does, serves, verdict, name="shop", **more)

    yield cell("good restart", "restart", NEW, REPLACED)
    yield cell("nothing was done", "", OLD, UNCHANGED)
    yield cell("shop-worker was restarted", "restart-worker", OLD, UNCHANGED)
    yield cell("stopped only", "stop", NOBODY, DEAD)
    yield cell("died at import", "restart", NOBODY, ENDING, code="broken")
    yield cell("lives of 1.3 s", "restart", FLAPPING, CRASH_LOOPING, code="v2:1.3", watch_for=8)
    yield cell("dies after 3 s", "restart", FLAPPING, ENDING, code="v2:3", watch_for=8)


def _systemd() -> Iterator[Cell]:
    def cell(service: str, event: str, does: str, serves: Serves, verdict: str, **more: Any) -> Cell:
        service = f"systemd{service}"
        return Cell(service, event, does, serves, verdict, **({"check": "systemd shop"} | more))

    yield cell("", "good restart", "restart", NEW, REPLACED)
    yield cell("", "good restart", "restart", NEW, REPLACED, check="", name="server.py")
    yield cell("", "nothing was done", "", OLD, UNCHANGED)
    yield cell("", "stopped only", "stop", NOBODY, DEAD)
    yield cell("", "died at import", "restart", NOBODY, DEAD, code="broken")
    yield cell("", "died after 3 s", "restart", NOBODY, DEAD, code="v2:3", watch_for=8)
    yield cell("", "a unit that is not there", "restart", OLD, "", check="systemd nothere")
    always = ", Restart=always"
    yield cell(always, "died at import", "restart", NOBODY, ENDING, code="broken")
    yield cell(always, "lives of 0.3 s", "restart", FLAPPING, CRASH_LOOPING, code="v2:0.3", watch_for=8)
    yield cell(always, "lives of 1.3 s", "restart", FLAPPING, CRASH_LOOPING, code="v2:1.3", watch_for=8)
    yield cell(always, "died after 3 s", "restart", FLAPPING, ENDING, code="v2:3", watch_for=8)
    wrapper = ", a wrapper"
    yield cell(wrapper, "good restart", "restart", NEW, REPLACED)
    yield cell(wrapper, "the application died at import", "restart", NOBODY, DEAD, code="broken")
    yield cell(wrapper, "the application died after 3 s", "restart", NOBODY, DEAD, code="v2:3", watch_for=8)
    yield cell(", KillMode=process", "the old one was orphaned, and serves", "restart", OLD, UNCHANGED)
    workers = " with workers"
    yield cell(workers, "good restart", "restart", NEW, REPLACED)
    yield cell(workers, "reload", "reload", SAME, RELOADED, reloads=True)
    yield cell(workers, "reload, meant to restart", "reload", SAME, UNCHANGED)
    yield cell(workers, "reload with a broken version", "reload", OLD, UNCHANGED, reloads=True, code="broken")
    yield cell(workers, "no reload", "", OLD, UNCHANGED, reloads=True)
    yield cell(", oneshot", "good restart", "restart", NEW, REPLACED)
    yield cell(", oneshot", "nothing was done", "", OLD, UNCHANGED)
    yield cell(", socket", "good restart", "restart", NEW, REPLACED, check="systemd shop.socket")
    yield cell(", socket", "nothing was done", "", OLD, UNCHANGED, check="systemd shop.socket")
    yield cell(" --user", "good restart", "restart", NEW, REPLACED)
    yield cell(" --user", "nothing was done", "", OLD, UNCHANGED)
    yield cell(" --user", "stopped only", "stop", NOBODY, DEAD)


def _podman() -> Iterator[Cell]:
    def cell(event: str, does: str, serves: Serves, verdict: str, **more: Any) -> Cell:
        return Cell("podman", event, does, serves, verdict, **({"name": "server.py"} | more))

    yield cell("good restart", "restart", NEW, REPLACED)
    yield cell("good restart", "restart", NEW, REPLACED, name="shop")
    yield cell("nothing was done", "", OLD, UNCHANGED)
    yield cell("died at import", "restart", NOBODY, DEAD, code="broken")
    yield cell("died after 3 s", "restart", NOBODY, DEAD, code="v2:3", watch_for=8)
    yield cell("stopped only", "stop", NOBODY, DEAD, name="shop")


# --- running a cell ----------------------------------------------------------------------------------


def run(cell: Cell) -> Outcome:
    """Let it happen, then compare what deployer says with what is true."""
    outcome = Outcome(cell)
    begun = time.monotonic()
    try:
        world = World(cell.service)
        try:
            _happen(cell, world, outcome)
        finally:
            world.close()
    except MissingError as error:
        outcome.not_run, outcome.can_run = str(error), not isinstance(error, CannotRunError)
    except (AssertionError, RuntimeError) as error:
        outcome.problems.append(str(error))
    outcome.seconds = time.monotonic() - begun
    return outcome


def _happen(cell: Cell, world: World, outcome: Outcome) -> None:
    settings: dict[str, object] = {"process_name": cell.name, "script_reloads": cell.reloads}
    if cell.kind:
        name = cell.name.format(folder=world.place.folder, port=world.place.port)
        settings |= {"process_name": "", "service_kind": cell.kind, "service_name": name}
    if cell.launch:
        text = world.script_text(cell.does) if cell.by == "text" else ""
        settings |= {"deploy_script_path": "", f"{cell.launch}_script": text}
        if text:
            (world.place.folder / "current").symlink_to(world.place.folder)
        else:
            settings["deploy_path"] = ""
        world.deployment_type = Deployment.Type(cell.launch)
    elif cell.by != "script":
        text = world.script_text(cell.does) if cell.by == "text" else ""
        settings |= {"deploy_script_path": "", "restart_script": text, "deploy_path": ""}
    if cell.drains:
        (world.place.folder / "drain").write_text(str(cell.drains))
    if cell.watch_for:
        settings["watch_for"] = cell.watch_for
    if "as-nobody" in cell.beside and os.getuid() != 0:
        raise CannotRunError("a process of another user can be started by root only")
    world.make_project(check=cell.check, **settings)
    try:
        world.begin(cell.begin)
    except AssertionError as error:
        if cell.service.startswith("podman"):
            raise CannotRunError(f"podman cannot run a container here: {error}") from error
        raise
    others: set[int] = set()
    if cell.beside:
        own = set(world.machine.processes())
        world.do(cell.beside)
        time.sleep(0.3)
        others = set(world.machine.processes()) - own
    before = world.look()
    world.write_version(cell.code)
    if cell.first:
        world.do(cell.first)
    world.write_script(cell.does)
    deployment = world.deploy()
    after = _look_after(cell, world)
    _compare(cell, world, deployment, before, after, others | world.beside(), outcome)


def _look_after(cell: Cell, world: World) -> Truth:
    """What is true in the end; what is still to come is waited for, whether deployer has waited or not."""
    if cell.serves == Serves.BOTH:
        return world.look(5, until=lambda versions: len(versions) > 1)
    if cell.serves == Serves.FLAPPING:
        # A container takes a while between two lives.
        return world.look(max(8.0 if cell.kind == "docker" else 3.0, cell.life + 1))
    deadline = time.monotonic() + cell.life + 1
    while cell.serves == Serves.NOBODY and world.answer() and time.monotonic() < deadline:
        time.sleep(0.05)
    return world.look()


def _compare(
    cell: Cell, world: World, deployment: Deployment, before: Truth, after: Truth, others: set[int], outcome: Outcome
) -> None:
    """Write down where deployer was wrong."""
    complain = outcome.problems.append
    target = deployment.targets.get()
    proof = Proof.from_json(target.proof)
    verdict, outcome.sentence = str(proof.verdict), proof.in_words or target.error
    outcome.said, outcome.truth = f"{target.status}/{verdict or '-'}", after.serves(before)
    if outcome.truth != cell.serves:
        complain(f"the cell itself: {outcome.truth} serves, not {cell.serves}: {_tail(world)}")
    if verdict not in cell.verdict.split(" or ") or target.status != cell.status:
        complain(f"said {outcome.said}, right is {cell.status}/{cell.verdict or '-'}: {outcome.sentence}")
    if (deployment.status == "success") != (target.status == "success"):
        complain(f"the deployment is {deployment.status}, its server {target.status}")
    runs = 0 if cell.verdict in ("", RUNNING) or cell.by == "own" else 1
    if world.ran() != runs:
        complain(f"the script was run {world.ran()} times, not {runs}")
    if re.search(r"pid 0\b", outcome.sentence):
        complain(f"“pid 0” in: {outcome.sentence}")
    if "workers are new" in outcome.sentence and outcome.truth != Serves.SAME:
        complain(f"its workers are said to be new: {outcome.sentence}")
    if cell.shows not in target.evidence:
        complain(f"the evidence does not show “{cell.shows}”: {target.evidence[-500:]}")
    _compare_names(cell, proof, before, after, others, outcome)
    alive = {process.key for process in after.processes.values()}
    if verdict == STOPPED and (left := [main for main in before.mains if main.key in alive]):
        complain(f"said to be stopped, and these run: {left}")
    if cell.launch and (ended := others - set(after.processes)):
        complain(f"others were ended: {_shown(ended, before)}")
    if verdict == UNKNOWN == cell.verdict:
        warnings = deployment.log_lines.filter(level="warning").values_list("content", flat=True)
        if not any(outcome.sentence in line for line in warnings):
            complain("nothing warns that a reload cannot be proved")


def _compare_names(cell: Cell, proof: Proof, before: Truth, after: Truth, others: set[int], outcome: Outcome) -> None:
    """The right processes are named, and no others as if they were; those of the proof run, those that ended do not."""
    complain, sentence = outcome.problems.append, outcome.sentence
    told = {int(pid) for pid in re.findall(r"\bpid (\d+)\b", sentence)}
    truth = after if cell.verdict == REPLACED else before
    nameless = cell.launch and cell.verdict == UNKNOWN
    if truth.main is not None and not nameless and cell.verdict in (REPLACED, UNCHANGED, RELOADED, UNKNOWN, RUNNING):
        names = _names(cell, truth, truth.main)
        if not any(pid in told | {0} and word in sentence for pid, word in names):
            complain(f"none of these is named: {names}: {sentence}")
    found = (*proof.before, *(proof.after or ()))
    if taken := {identity.pid for identity in found} & others:
        complain(f"others were taken for it: {_shown(taken, before, after)}")
    aside = {identity.pid for identity in (*proof.others, *proof.near, *proof.ended)}
    if named := told & others - aside:
        complain(f"others are named: {_shown(named, before, after)}: {sentence}")
    if alive := [identity for identity in proof.ended if not identity.pid or identity.pid in after.processes]:
        complain(f"these are said to have ended: {', '.join(map(str, alive))}")
    gone = {identity.pid for identity in proof.after or () if identity.pid} - set(after.processes)
    if gone and cell.verdict and cell.serves in (Serves.NEW, Serves.SAME, Serves.OLD):
        complain(f"its proof is of processes that have ended: {_shown(gone, before, after)}")


def _names(cell: Cell, truth: Truth, main: Process) -> list[tuple[int, str]]:
    """By which pid and word the service may be named: its first process, or the main process of its unit."""
    kind, _space, unit = cell.check.partition(" ")
    if unit.endswith(".socket") or cell.kind == "docker":
        return [(0, unit), (main.pid, "")]
    processes = [main]
    while (kind == "systemd" or cell.kind) and (parent := truth.processes.get(processes[-1].parent)) and parent.pid > 1:
        processes.append(parent)
    return [(process.pid, Path(process.command.split()[0]).name) for process in processes]


def _shown(pids: set[int], *truths: Truth) -> str:
    known = {pid: process.command for truth in truths for pid, process in truth.processes.items()}
    return ", ".join(f"pid {pid} ({known.get(pid, 'ended')})" for pid in sorted(pids))


def _tail(world: World) -> str:
    """The end of what the service wrote."""
    path = world.place.folder / "log"
    return path.read_text(errors="replace")[-300:] if path.exists() else "no log"
