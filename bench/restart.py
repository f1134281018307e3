"""Restart-only, from the launch to the verified end, beside tools that run the same script and prove nothing."""

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from bench.profiles import profile_functions
from bench.table import Measured, Sides, machine_cpu, processes_started, rounds, show
from bench.targets import print_line, readme
from bench.world import MACHINE, SSH_OPTIONS, TOOLS, World
from deployer.models import Deployment
from projects.models import Project
from tests.factories import make_deployment, make_project
from tests.parts.programs import wait_until
from tests.parts.queue import QueueServer
from tests.parts.worker import Worker

PROCESS = "bench-application"
SCRIPT = f"""\
[ -f application.pid ] && kill "$(cat application.pid)"
(exec -a {PROCESS} sleep 100000) </dev/null >/dev/null 2>&1 &
echo $! >application.pid
echo restarted
"""
LIMIT = 120  # seconds for one deployment
#: How many servers there are in each table; the two in the middle tell what each further one costs.
SIZES = (1, 10, 50, 200)
#: The greatest ratios of wall time, by the number of servers; the most CPU of each further server, in ms, by the side.
TARGETS = {50: {"ssh by xargs": 0.5, "Ansible shell": 0.2, "pyinfra": 1.0}, 200: {"ssh by xargs": 0.6}}
MOST_MS = {"platform": 10, "server": 48}
ROUNDS = 4
OWN_WAYS = ("deployer", "with config files", "with steps")


class Restarts(World):
    """Servers with an application, and a project that restarts it."""

    def __init__(self, size: int) -> None:
        super().__init__(size, MACHINE)
        #: Seconds of CPU that the launches took, which are this process's own.
        self.launches = 0.0
        self.sides = Sides(lambda: self.platform.cpu + self.launches, lambda: self.there.cpu)
        for sshd in self.sshds:
            (sshd.home / "restart.sh").write_text(SCRIPT)
        self.project = make_project(deploy_script_path="~/restart.sh", process_name=PROCESS)
        #: The same with a config file that stays, and one that is another one each time.
        self.with_files = make_project(deploy_script_path="~/restart.sh", process_name=PROCESS)
        self.with_files.config_files.create(path="~/stays.conf", content="a = 1\n")
        self.changing = self.with_files.config_files.create(path="~/changes.conf", content="a = 1\n")
        #: The same with a step on each side of the restart.
        self.with_steps = make_project(deploy_script_path="~/restart.sh", process_name=PROCESS)
        for moment in ("before", "after"):
            self.with_steps.steps.create(name=moment, moment=moment, script="echo done")

    def files(self) -> Deployment:
        """`deployer`, where one config file of two has changed."""
        self.changing.content += "# one more\n"
        self.changing.save()
        return self.deployer(self.with_files)

    def steps(self) -> Deployment:
        """`deployer`, with a step before and a step after."""
        return self.deployer(self.with_steps)

    def deployer(self, project: Project | None = None) -> Deployment:
        """Launch it, and wait for the worker's verified end."""
        spent = time.process_time()
        deployment = make_deployment(project or self.project, self.group, deployment_type="restart_only")
        self.launches += time.process_time() - spent
        until = time.monotonic() + LIMIT
        while deployment.finished_at is None and time.monotonic() < until:
            time.sleep(0.005)
            deployment.refresh_from_db(fields=["status", "finished_at", "error_message"])
        verdicts = {target.proof.get("verdict") for target in deployment.targets.all()}
        if deployment.status != Deployment.Status.SUCCESS or verdicts != {"replaced"}:
            raise SystemExit(f"the benchmark's own deployment failed: {deployment.error_message} {verdicts}")
        return deployment

    def first_row(self) -> float:
        """Seconds from the launch until the first row of the log is there to be polled."""
        begun = time.perf_counter()
        deployment = make_deployment(self.project, self.group, deployment_type="restart_only")
        while not deployment.log_lines.exists():
            time.sleep(0.002)
            if time.perf_counter() - begun > LIMIT:
                raise SystemExit("no worker has taken it")
        took = time.perf_counter() - begun
        while Deployment.objects.active().filter(pk=deployment.pk).exists():
            time.sleep(0.02)
        return took

    def pids(self) -> list[str]:
        """Who the applications are."""
        return [(sshd.home / "application.pid").read_text() for sshd in self.sshds]

    def checked(self, way: Callable[[], object]) -> Callable[[], None]:
        """``way``, and the end of the benchmark if it has not replaced every application."""

        def do() -> None:
            before = self.pids()
            way()
            if same := sum(one == two for one, two in zip(before, self.pids(), strict=True)):
                raise SystemExit(f"{same} of {len(before)} applications were not restarted by {way}")

        return do

    def xargs(self) -> None:
        """``ssh``, one a server, all at once."""
        rows = "".join(
            f"{port} {sshd.folder}/login_key {sshd.username}@{sshd.host}\n"
            for sshd, port in zip(self.sshds, self.ports, strict=True)
        )
        (self.folder / "rows").write_text(rows)
        command = f'ssh -n {SSH_OPTIONS} -p "$0" -i "$1" "$2" "cd && bash restart.sh"'
        self.run_here(["xargs", "-a", self.folder / "rows", "-P", len(self.sshds), "-L", "1", "sh", "-c", command])

    def pyinfra(self) -> None:
        """pyinfra's ad hoc command."""
        path = self.folder / "inventory.py"
        rows = [
            (
                f"server-{port}",
                {
                    "ssh_hostname": sshd.host,
                    "ssh_port": port,
                    "ssh_user": sshd.username,
                    "ssh_key": str(sshd.folder / "login_key"),
                    "ssh_strict_host_key_checking": "no",
                    "ssh_known_hosts_file": str(self.folder / "known_hosts"),
                },
            )
            for sshd, port in zip(self.sshds, self.ports, strict=True)
        ]
        path.write_text(f"servers = {rows!r}\n")
        self.run_here([TOOLS / "pyinfra", "-y", path, "exec", "--", "cd && bash restart.sh"])


def main(queue: QueueServer, number: int, *, quick: bool) -> None:
    """A table for each number of servers, both sides' CPU apart, and how soon the page has something to show."""
    if os.getuid():
        raise SystemExit("The restart benchmark must be root: each of its servers has processes of its own (unshare).")
    number = min(number, ROUNDS)
    worker = Worker(queue)
    place = Restarts(max(SIZES))
    try:
        place.platform.take(worker.process.pid)
        place.platform.take(queue.pid)
        wait_until(lambda: worker.is_idle, "the worker to wait for work")
        place.deployer()  # pins the host keys, starts the application
        found = {size: table(place, size, number, worker) for size in SIZES}
        is_cheap = _apart(found)
        _watches(place)
    finally:
        worker.stop()
    try:
        if not is_cheap:
            profile_functions(place.project, place.servers[: SIZES[-2]], lambda: place.there.cpu)
    finally:
        place.close()


def table(place: Restarts, size: int, number: int, worker: Worker) -> dict[str, Measured]:
    """All ways to restart the first so many servers."""
    place.take_first(size)
    ways: dict[str, Callable[[], object]] = {
        "deployer": place.deployer,
        "with config files": place.files,
        "with steps": place.steps,
        "ssh by xargs": place.xargs,
        "Ansible raw": lambda: place.ansible("raw", "cd && bash restart.sh"),
        "Ansible shell": lambda: place.ansible("shell", "bash restart.sh chdir={{ home }}"),
        "pyinfra": place.pyinfra,
    }
    if size == max(SIZES):
        ways = {name: ways[name] for name in ("deployer", "ssh by xargs", "pyinfra")}
    else:
        place.files()
    checked = {name: place.checked(way) for name, way in ways.items()}
    seldom = dict.fromkeys(ways.keys() & {"with config files", "with steps", "Ansible raw", "Ansible shell"}, 2)
    found = rounds(checked, lambda: None, number, place.sides, seldom)
    watch = float(place.project.watch_for)
    if not show(f"Restart-only on {size} servers", found, TARGETS.get(size, {}), idle=watch):
        profile(place, worker)
    if size == 1:
        first = Measured(wall=[place.first_row() for _round in range(2 * number)])
        limit = 0.3
        figure = f"{first.median_wall:.3f} s"
        print_line("From the launch to the first row of the log", figure, f"{limit} s", first.median_wall <= limit)
    if size in TARGETS:
        others = ", ".join(
            f"{name.removesuffix(' by xargs').removesuffix(' shell')} {found[name].median_wall:.1f} s"
            for name in ("ssh by xargs", "Ansible shell", "pyinfra")
            if name in found
        )
        own = f"{found['deployer'].median_wall:.1f} s"
        readme(f"restart on {size} servers, each watched for {watch:g} s", own, others)
    return found


def _apart(found: dict[int, dict[str, Measured]]) -> bool:
    """What each further server costs on both sides; says whether deployer costs no more than it may."""
    few, many = SIZES[1:3]
    print(f"\nCPU of both sides, ms for each further server (from {few} to {many})")
    print(f"  {'':22}{'platform':>10}{'server':>9}")
    each = {
        name: tuple(
            1000 * (getattr(found[many][name], side) - getattr(found[few][name], side)) / (many - few)
            for side in ("median_platform", "median_servers")
        )
        for name in found[many]
    }
    for name, (platform, server) in each.items():
        print(f"  {name:22}{platform:>10.1f}{server:>9.1f}")
    if not found[many]["deployer"].median_servers:
        print("  This machine has no control groups for us: the sides cannot be told apart.")
        return True
    is_met = True
    for side, place in (("platform", 0), ("server", 1)):
        own, limit = each["deployer"][place], MOST_MS[side]
        is_met = is_met and own <= limit
        print_line(f"each further restart: CPU on the {side}'s side", f"{own:.1f} ms", f"{limit} ms", own <= limit)
        others = ", ".join(f"{name} {each[name][place]:.0f} ms" for name in each if name not in OWN_WAYS)
        readme(f"CPU of a restart on the {side}'s side, each further server", f"{own:.0f} ms", others)
    return is_met


def _watches(place: Restarts) -> None:
    """Whether servers that are watched keep others waiting: more of them are than are worked on at once."""
    longer = make_project(deploy_script_path="~/restart.sh", process_name=PROCESS, watch_for=3)
    taken = []
    for project in (place.project, longer):
        begun = time.perf_counter()
        place.deployer(project)
        taken.append(time.perf_counter() - begun)
    more, limit = taken[1] - taken[0], 1.25 * (longer.watch_for - place.project.watch_for)
    size = len(place.sshds)
    print_line(f"{size} servers watched for 3 s and not for 1: longer by", f"{more:.1f} s", f"{limit} s", more <= limit)


def profile(place: Restarts, worker: Worker) -> None:
    """Where deployer's time goes: when each step had been done, whose CPU it took, how many processes it started."""
    size = len(place.sshds)
    time.sleep(2)  # what the last round has left ends
    mine, cpu, started = _spent_by(worker), machine_cpu(), processes_started()
    deployment = place.deployer()
    wall = time.perf_counter()
    cpu, started = machine_cpu() - cpu, processes_started() - started
    while worker.horses:  # its CPU time is the worker's once it is gone
        time.sleep(0.01)
        if time.perf_counter() > wall + LIMIT:
            raise SystemExit("the worker's job does not end")
    mine = _spent_by(worker) - mine
    before = processes_started()
    place.xargs()
    print(f"Where the time goes on {size} servers, in seconds from the launch: median server, last server")
    for name, column in (
        ("logged in, looked at, restart begun", "begun_at"),
        ("script ended", "checking_at"),
        (f"watched for {place.project.watch_for} s, proved", "finished_at"),
    ):
        moments = deployment.targets.values_list(column, flat=True)
        after = [(moment - deployment.created_at).total_seconds() for moment in moments if moment]
        print(f"  {name:40}{statistics.median(after):6.2f}{max(after):6.2f}")
    print(
        f"CPU: {mine:.2f} s of the worker's own, {cpu - mine:.2f} s of everything else, on {os.cpu_count()} processors"
    )
    print(f"Processes started a server: {started / size:.0f}, by ssh {(processes_started() - before) / size:.0f}")


def _spent_by(worker: Worker) -> float:
    """Seconds of CPU of a worker and of its work horses that have ended."""
    fields = Path(f"/proc/{worker.process.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
