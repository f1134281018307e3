"""What keeps a service running says of it: systemd, supervisor, pm2, docker; for a port the kernel, else a pid file."""

from dataclasses import dataclass

#: The state of what is not there at all.
NOT_FOUND = "not-found"


@dataclass(frozen=True)
class Kept:
    """A service as its keeper shows it.

    ``state`` is in the keeper's own words, `NOT_FOUND` where it knows none of this name. ``main`` are the pids that it
    names, ``group`` the control group that holds all of them. ``run`` is another one after each start, and ``since``
    the moment of that. ``restarts`` counts those that nobody asked for. ``is_off``: it does not run, and its keeper is
    not about to start it. ``problem`` says why it could not be asked, and ``refused`` which user may not ask it.
    ``holds``: who has let go of the thing that it is known by (a port) is gone, whether the process is still there or
    not.
    """

    name: str
    state: str = ""
    is_known: bool = True
    is_up: bool = False
    is_off: bool = False
    is_looping: bool = False
    restarts: int = 0
    run: str = ""
    since: str = ""
    main: tuple[int, ...] = ()
    group: str = ""
    problem: str = ""
    refused: str = ""
    holds: bool = False
