"""The table of services: each kind, and what happens to a service of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.proofs.cells import (
    CRASH_LOOPING,
    DEAD,
    ENDING,
    FLAPPING,
    NEW,
    NOBODY,
    OLD,
    RELOADED,
    REPLACED,
    RUNNING,
    SAME,
    STILL_RUNNING,
    STOPPED,
    UNCHANGED,
    UNKNOWN,
    Cell,
)

REAL, OWN, NONE = "a real restart", "a restart of its own", "no restart"
STAYS, DIES, LOOPS = "the old one stays and serves", "the new one dies after 3 s", "a crash loop faster than a second"
DRAINS, EXECS, BROKEN = "a graceful drain of 25 s", "an exec in place", "a reload with a broken configuration"
AT_ONCE = "the new one dies at its start"
TWIN, SECOND = "a twin with a similar name was restarted", "a second application of the same program"
#: Of deployments that only stop or start it.
STOP, STOP_SLOWLY, STOP_NONE = "a stop", "a stop that takes 25 s", "a stop that stops nothing"
STOP_TWICE, STOP_IN_VAIN = "a stop of what is stopped", "a stop, and its keeper starts it again"
STOP_BESIDE, STOP_SECOND = "a stop beside a twin", "a stop beside a second application"
START, START_TWICE, START_DIES = "a start", "a start of what runs", "a start, and it dies after 3 s"
RESTART_STOPPED = "a restart of what is stopped"
_RESTARTS = (REAL, OWN, NONE, STAYS, AT_ONCE, DIES, LOOPS, DRAINS, EXECS, BROKEN, TWIN, SECOND)

_POWER = (STOP, STOP_SLOWLY, STOP_NONE, STOP_TWICE, STOP_IN_VAIN, STOP_BESIDE, STOP_SECOND, START, START_TWICE)
EVENTS = (*_RESTARTS, *_POWER, START_DIES, RESTART_STOPPED)

_STOP = {"launch": "stop", "by": "own", "does": "", "serves": NOBODY, "verdict": STOPPED}
_START = {"launch": "start", "by": "own", "does": "", "serves": NEW, "verdict": REPLACED, "first": "stop"}
#: What is right, whatever the kind; a row may say otherwise.
RIGHT: Mapping[str, Mapping[str, Any]] = {
    REAL: {"serves": NEW, "verdict": REPLACED},
    OWN: {"serves": NEW, "verdict": REPLACED, "by": "own", "does": ""},
    NONE: {"serves": OLD, "verdict": UNCHANGED, "does": ""},
    STAYS: {"serves": OLD, "verdict": UNCHANGED},
    AT_ONCE: {"serves": NOBODY, "verdict": ENDING, "code": "broken", "shows": "this version is broken"},
    DIES: {"serves": FLAPPING, "verdict": ENDING, "code": "v2:3", "watch_for": 8},
    LOOPS: {"serves": FLAPPING, "verdict": CRASH_LOOPING, "code": "v2:0.3", "watch_for": 8},
    DRAINS: {"serves": NEW, "verdict": REPLACED, "drains": 25},
    EXECS: {"serves": SAME, "verdict": RELOADED, "does": "usr1"},
    BROKEN: {"serves": OLD, "verdict": UNCHANGED, "code": "broken", "reloads": True, "does": "hup"},
    TWIN: {"serves": OLD, "verdict": UNCHANGED, "beside": "start-twin", "does": "restart-twin"},
    SECOND: {"serves": NEW, "verdict": REPLACED, "beside": "start-other"},
    STOP: _STOP,
    STOP_SLOWLY: _STOP | {"drains": 25},
    STOP_NONE: _STOP | {"by": "text", "serves": OLD, "verdict": STILL_RUNNING},
    STOP_TWICE: _STOP | {"first": "stop"},
    STOP_IN_VAIN: _STOP | {"by": "text", "does": "kill", "serves": NEW, "verdict": STILL_RUNNING, "watch_for": 4},
    STOP_BESIDE: _STOP | {"beside": "start-twin"},
    STOP_SECOND: _STOP | {"beside": "start-other"},
    RESTART_STOPPED: {"by": "own", "does": "", "first": "stop", "serves": NEW, "verdict": REPLACED},
    START: _START,
    START_TWICE: _START | {"first": "", "serves": OLD, "verdict": RUNNING},
    START_DIES: _START | {"serves": FLAPPING, "verdict": ENDING, "code": "v2:3", "watch_for": 8},
}


@dataclass(frozen=True)
class Row:
    """One kind: the service that stands for it, its name in the project, the words that restart it, and exceptions."""

    title: str
    kind: str
    name: str
    service: str
    does: str
    others: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    #: What there is not, and why.
    never: Mapping[str, str] = field(default_factory=dict)

    def cells(self) -> Iterator[Cell]:
        """What happens to it."""
        for event in EVENTS:
            if event not in self.never:
                values = {"service": self.service, "does": self.does, **RIGHT[event], **self.others.get(event, {})}
                yield Cell(event=event, row=self.title, kind=self.kind, name=self.name, **values)


_AGAIN = "stop start"
_ENDS = {"serves": NOBODY, "verdict": DEAD}
_BY_TEXT = {"does": _AGAIN, "by": "text"}
_OF_A_PROCESS: dict[str, dict[str, Any]] = {
    OWN: _BY_TEXT,  # a process has none: the project keeps the script
    STAYS: {"does": "start"},
    AT_ONCE: {"shows": ""},  # its log is where its script puts it
    DIES: _ENDS,
    LOOPS: {"begin": "keep", "does": "stop-keeping keep"},
    DRAINS: {"does": "begin-to-stop start"},
    BROKEN: {"service": "python with workers"},
    STOP: {"by": "text", "does": "stop"},
    STOP_SLOWLY: {"by": "text", "does": "begin-to-stop"},
    STOP_IN_VAIN: {"begin": "keep"},
    STOP_BESIDE: {"by": "text", "does": "stop"},
    STOP_SECOND: {"by": "text", "does": "stop"},
    RESTART_STOPPED: {"by": "text", "does": "start"},
    START: {"by": "text", "does": "start"},
    START_TWICE: {"by": "text", "does": "start"},
    START_DIES: {"by": "text", "does": "start", **_ENDS},
    # Without a keeper that knows it, a name that has never found anything proves no stop.
    STOP_TWICE: {"by": "text", "verdict": UNKNOWN},
}
_TWO_UNITS = {SECOND: {"beside": "start-twin"}, STOP_SECOND: {"beside": "start-twin"}}

ROWS = (
    Row("process, by its words", "process", "server.py", "python", _AGAIN, _OF_A_PROCESS),
    Row("process, by its pid file", "process", "{folder}/pid", "python", _AGAIN, _OF_A_PROCESS),
    Row("port", "port", "{port}", "python", _AGAIN, _OF_A_PROCESS),
    Row(
        "systemd",
        "systemd",
        "shop",
        "systemd",
        "restart",
        {
            STAYS: {"service": "systemd, KillMode=process"},
            DIES: _ENDS,
            LOOPS: {"service": "systemd, Restart=always"},
            STOP_IN_VAIN: {"service": "systemd, Restart=always"},
            START_DIES: _ENDS,
            BROKEN: {"service": "systemd with workers", "does": "reload"},
            **_TWO_UNITS,
        },
    ),
    Row(
        "systemd --user",
        "systemd",
        "shop",
        "systemd --user",
        "restart",
        {
            STAYS: {"service": "systemd --user, KillMode=process"},
            DIES: _ENDS,
            LOOPS: {"service": "systemd --user, Restart=always"},
            STOP_IN_VAIN: {"service": "systemd --user, Restart=always"},
            START_DIES: _ENDS,
            BROKEN: {"service": "systemd --user with workers", "does": "reload"},
            **_TWO_UNITS,
        },
    ),
    Row(
        "supervisor",
        "supervisor",
        "-c {folder}/supervisor.conf shop",
        "supervisor",
        "restart",
        {
            STAYS: {"service": "supervisor, a wrapper"},
            LOOPS: {"serves": NOBODY, "verdict": ENDING},
            BROKEN: {"service": "supervisor with workers"},
            TWIN: {"beside": "", "does": "restart-worker"},
            SECOND: {"beside": ""},
            STOP_BESIDE: {"beside": ""},
            STOP_SECOND: {"beside": ""},
        },
    ),
    Row(
        "pm2",
        "pm2",
        "shop",
        "pm2",
        "restart",
        {
            STAYS: {"service": "pm2, python", "begin": "start-wrapper"},
            LOOPS: {"verdict": ENDING},
            DRAINS: {"begin": "start-draining"},
            STOP_SLOWLY: {"begin": "start-draining"},
            EXECS: {"service": "pm2, python"},
            BROKEN: {"service": "pm2, python", "begin": "start-workers"},
        },
    ),
    Row(
        "container",
        "docker",
        "shop",
        "podman",
        "restart",
        {
            DIES: _ENDS,
            LOOPS: {"begin": "start-always"},
            STOP_IN_VAIN: {"begin": "start-always"},
            STOP_SLOWLY: {"by": "text", "does": "drain-stop"},
            START_DIES: _ENDS,
            DRAINS: {"does": "drain-restart"},
            BROKEN: {"service": "podman with workers"},
            **_TWO_UNITS,
        },
        {STAYS: "nothing outlives its container"},
    ),
)


def services() -> Iterator[Cell]:
    """All cells of the table of services."""
    for row in ROWS:
        yield from row.cells()


def never() -> Iterator[str]:
    """What there cannot be, and why."""
    for row in ROWS:
        for event, why in row.never.items():
            yield f"{row.title}: {event}: {why}"
