"""How an application is restarted and how its processes are found: shell text, and the reading of answers."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from shlex import quote

from servers.shell import Script, as_user


def script_path(path: str, deploy_path: str) -> str:
    """The script's absolute path: as given, or below ``{deploy_path}/current``."""
    return path if path.startswith(("/", "~/")) else f"{deploy_path}/current/{path}"


def in_release(path: str, deploy_path: str, version: str) -> str:
    """Where a script below ``current`` will come from once ``version`` is live; other paths stay."""
    current = f"{deploy_path}/current/"
    return f"{deploy_path}/releases/{version}/{path[len(current) :]}" if path.startswith(current) else path


def at_home(path: str, home: str) -> str:
    """``path`` with a leading ``~/`` replaced by the login's home."""
    return home.rstrip("/") + path[1:] if path.startswith("~/") else path


def in_shell(path: str) -> str:
    """``path`` for sh, quoted; a leading ``~/`` becomes the login's home there."""
    return '"${HOME%/}"' + quote(path[1:]) if path.startswith("~/") else quote(path)


def restart(script: str, env: Mapping[str, str], run_as: str = "") -> Script:
    """``bash SCRIPT`` in the script's own folder, as another user if one is named."""
    folder, _slash, name = script.rpartition("/")
    return Script(f"exec bash {quote('./' + name)}", env, folder or "/", run_as)


# --- the processes of a server -----------------------------------------------------------------------


#: How a moment by a server's clock is written.
MOMENT = "%Y-%m-%d %H:%M:%S UTC"
#: What /proc counts start times in, a second: USER_HZ, the same on every architecture that Linux still runs on.
TICKS = 100


@dataclass(frozen=True)
class Process:
    """One process: its identity (pid and start, in ticks since boot), its parent and its command line."""

    pid: int
    parent: int
    start: int
    command: str


@dataclass(frozen=True)
class Survey:
    """A server's state: boot id, every process that is not the asking session's own, the units."""

    boot: str
    booted_at: int
    processes: tuple[Process, ...]
    units: Mapping[str, Mapping[str, str]]

    def since(self, process: Process) -> str:
        """When the process was started, by the server's clock, in UTC."""
        moment = datetime.fromtimestamp(self.booted_at + process.start / TICKS, UTC)
        return moment.strftime(MOMENT)


def survey(units: Iterable[str] = ()) -> str:
    """Print everything that `read_survey` wants. The command lines come back as data and are matched in Python."""
    ask_units = "".join(
        f"echo UNIT {quote(unit)}\n"
        f"systemctl show -p ActiveState -p MainPID -p InvocationID -p NRestarts -- {quote(unit)} 2>&1\n"
        for unit in units
    )
    return f"""read -r boot </proc/sys/kernel/random/boot_id
echo BOOT "$boot"
echo SELF $$
{ask_units}echo PROCESSES
grep -aH '' /proc/stat /proc/[0-9]*/stat /proc/[0-9]*/cmdline 2>/dev/null
"""


_PROC_LINE = re.compile(r"/proc/(\d+)/(stat|cmdline):(.*)", re.DOTALL)
_BOOTED_AT = re.compile(r"^/proc/stat:btime (\d+)$", re.MULTILINE)


def read_survey(text: str) -> Survey:
    """Take the answer apart, and leave out the asking session: its shell, the shell's ancestors and children."""
    head, _mark, listing = text.partition("PROCESSES\n")
    facts: dict[str, str] = {}
    units: dict[str, dict[str, str]] = {}
    unit: dict[str, str] | None = None
    for line in head.splitlines():
        name, _space, value = line.partition(" ")
        if name == "UNIT":
            unit = units.setdefault(value, {})
        elif unit is not None:
            key, _equals, answer = line.partition("=")
            unit[key] = answer
        else:
            facts[name] = value
    stats: dict[int, tuple[int, int, str]] = {}
    commands: dict[int, str] = {}
    for line in listing.split("\n"):
        match = _PROC_LINE.match(line)
        if match is None:
            continue
        pid = int(match[1])
        if match[2] == "stat":
            fields = match[3].rpartition(")")[2].split()
            stats[pid] = (int(fields[1]), int(fields[19]), fields[0])
        else:
            commands[pid] = (commands.get(pid, "") + " " + match[3]).replace("\0", " ").strip()
    booted_at = _BOOTED_AT.search(listing)
    own = int(facts.get("SELF", "0"))
    left_out = {own}
    while below := {pid for pid, (parent, _start, _state) in stats.items() if parent in left_out} - left_out:
        left_out |= below
    while (parent := stats.get(own, (0, 0, ""))[0]) > 1 and parent not in left_out:
        left_out.add(parent)
        own = parent
    return Survey(
        boot=facts.get("BOOT", ""),
        booted_at=int(booted_at[1]) if booted_at else 0,
        processes=tuple(
            Process(pid, parent, start, commands[pid])
            for pid, (parent, start, state) in sorted(stats.items())
            if pid not in left_out and state != "Z" and commands.get(pid)
        ),
        units=units,
    )


def derived_process_name(project_name: str) -> str:
    """The name of a process that is named after its project: lower case, spaces and hyphens removed."""
    return project_name.lower().replace(" ", "").replace("-", "")


_LAUNCH = re.compile(r"\bmanage\.py deploy ")


def find_processes(survey: Survey, name: str, *, derived: bool) -> list[Process]:
    """The processes with ``name`` in their command line; a derived name is compared in its own plain form.

    The command that launches the deployment names the project too: where deployer deploys to its own machine,
    that one is not taken for the application.
    """
    others = [process for process in survey.processes if not _LAUNCH.search(process.command)]
    if derived:
        return [process for process in others if name in process.command.lower().replace("-", "")]
    return [process for process in others if name in process.command]


def working_folders(pids: Iterable[int], run_as: str = "") -> str:
    """Print ``PID FOLDER`` of each process that is still there; those of another user are shown to that user alone."""
    return as_user(run_as, "".join(f'printf "%s %s\\n" {pid} "$(readlink /proc/{pid}/cwd)"\n' for pid in pids))


def old_release(folder: str, deploy_path: str, live: str) -> str:
    """The release that a working folder lies in if that is not the ``live`` one; empty otherwise."""
    releases = f"{deploy_path}/releases/"
    if not live or not deploy_path or not folder.startswith(releases):
        return ""
    name = folder[len(releases) :].removesuffix(" (deleted)").split("/")[0]
    return name if name != live else ""


def evidence(log_path: str, unit: str, ports: Iterable[int]) -> str:
    """Print the end of the application's log, the unit's state and journal, and who listens on the ports."""
    parts = []
    if log_path:
        parts.append(f"echo '== '{quote(log_path)}\ntail -n 40 {quote(log_path)} 2>&1\n")
    if unit:
        name = quote(unit)
        parts.append(f"echo '== '{name}\nsystemctl status --no-pager -l -n 0 -- {name} 2>&1 | head -n 20\n")
        parts.append(f"journalctl --no-pager -n 30 -u {name} 2>&1\n")
    for port in ports:
        parts.append(f"echo '== port {port}'\nss -Hltnp 'sport = :{port}' 2>&1 || echo 'ss is not installed'\n")
    return "".join(parts)
