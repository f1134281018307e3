"""Units of systemd for this installation: everything in one, or its parts apart."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from deployer.host.given import CREDENTIALS
from deployer.host.kinds import Kind, shared

#: What is asked to stop finishes its deployments first, and builds are spared.
_SLOW = "KillMode=mixed\nTimeoutStopSec=2h\n"
#: What nothing of deployer needs.
_CLOSED = """\
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
PrivateTmp=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelModules=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RemoveIPC=yes
KeyringMode=private
UMask=0077
"""
#: What builds in a sandbox need: namespaces, /proc as it is, a device for their network. Where nothing is built, that
#: is closed, too.
_WITHOUT_BUILDS = """\
PrivateDevices=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
SystemCallArchitectures=native
"""
#: What the workers do that have a unit of their own.
_ABOUT = {Kind.LOOK: "looks at servers", Kind.FOLLOW: "follows logs"}


@dataclass(frozen=True)
class Place:
    """What units are written for: the program, the user it runs as, its data folder, and where it listens.

    ``keeps_bind``: the settings' file does not say where that is, so the units have to. Where the file does, or may
    later, they listen to it alone.
    """

    program: Path
    user: str
    data: Path
    bind: str
    keeps_bind: bool = False

    @property
    def own_bind(self) -> str:
        """The line of a unit that says where it listens; empty where the settings' file says so."""
        return f"Environment=DEPLOYER_BIND={self.bind}\n" if self.keeps_bind else ""


def in_one(place: Place) -> dict[str, str]:
    """A unit that runs `deployer up`."""
    return {
        "deployer.service": _service(
            place,
            "deployer: everything in one",
            "up",
            after="network-online.target",
            kind="notify",
            more=_SLOW,
            wanted_by="multi-user.target",
        )
    }


def of_a_user(place: Place) -> dict[str, str]:
    """A unit of a user's own manager that runs `deployer up`: it closes nothing, for that takes root."""
    return {
        "deployer.service": (
            "[Unit]\nDescription=deployer: everything in one\n\n"
            f"[Service]\nType=notify\nTimeoutStartSec=15min\nEnvironment=DEPLOYER_DATA_DIR={_quoted(str(place.data))}\n"
            f"{place.own_bind}ExecStart={_quoted(str(place.program))} up\n"
            f"Restart=always\nRestartSec=2\n{_SLOW}\n"
            "[Install]\nWantedBy=default.target\n"
        )
    }


def apart(place: Place, kinds: Iterable[Kind] = Kind) -> dict[str, str]:
    """Units that run each part by itself; `deployer.target` starts them all. The queue is a server of its own.

    ``kinds`` are what the workers of this machine take; each that has a worker of its own has a unit.
    """
    part = {"part_of": "deployer.target", "wanted_by": "deployer.target"}
    after = "network-online.target deployer-migrate.service"
    return {
        "deployer.target": "[Unit]\nDescription=deployer\n\n[Install]\nWantedBy=multi-user.target\n",
        "deployer-migrate.service": _service(
            place,
            "deployer: the form of the database",
            "migrate",
            after="network-online.target postgresql.service",
            kind="oneshot",
            more="RemainAfterExit=yes\n",
            **part,
        ),
        "deployer-web.socket": (
            "[Unit]\nDescription=deployer: pages and API\nPartOf=deployer.target\n\n"
            f"[Socket]\nListenStream={place.bind}\n\n[Install]\nWantedBy=deployer.target\n"
        ),
        "deployer-web.service": _service(
            place,
            "deployer: pages and API",
            "web",
            after=after,
            needs="deployer-web.socket",
            kind="notify",
            closed=_WITHOUT_BUILDS,
            more="TimeoutStopSec=30\n",
            **part,
        ),
        **(
            {
                "deployer-worker@.service": _service(
                    place, "deployer: worker %i", "worker", after=after, more=_SLOW, **part
                )
            }
            if shared(kinds)
            else {}
        ),
        **{
            f"deployer-{kind}.service": _service(
                place,
                f"deployer: {_ABOUT[kind]}",
                f"worker {kind}",
                after=after,
                closed=_WITHOUT_BUILDS,
                more=_SLOW,
                **part,
            )
            for kind in kinds
            if kind.is_apart
        },
        "deployer-courier.service": _service(
            place,
            "deployer: sends notices",
            "courier",
            after=after,
            closed=_WITHOUT_BUILDS,
            more="TimeoutStopSec=60\n",
            **part,
        ),
    }


def _service(
    place: Place,
    about: str,
    command: str,
    *,
    after: str,
    wanted_by: str,
    more: str = "",
    kind: str = "exec",
    part_of: str = "",
    needs: str = "",
    closed: str = "",
) -> str:
    unit = f"Description={about}\nAfter={after}\nWants=network-online.target\n"
    unit += f"PartOf={part_of}\n" if part_of else ""
    unit += f"Requires={needs}\n" if needs else ""
    again = "" if kind == "oneshot" else "Restart=always\nRestartSec=2\n"
    again += "" if kind == "exec" else "TimeoutStartSec=15min\n"  # a migration may take its time
    return (
        f"[Unit]\n{unit}\n"
        f"[Service]\nType={kind}\nUser={place.user}\n"
        f"Environment=DEPLOYER_DATA_DIR={_quoted(str(place.data))}\n"
        f"{place.own_bind}"
        f"LoadCredential=deployer:{CREDENTIALS}\n"
        f"ExecStart={_quoted(str(place.program))} {command}\n"
        f"{again}{more}"
        f"LimitNOFILE=65536\nWorkingDirectory={_quoted(str(place.data))}\nReadWritePaths={_quoted(str(place.data))}\n\n"
        f"{_CLOSED}ProtectHome={'read-only' if _is_at_home(place) else 'yes'}\n{closed}\n"
        f"[Install]\nWantedBy={wanted_by}\n"
    )


def _is_at_home(place: Place) -> bool:
    """Whether the program or the data folder would be hidden with the homes of users."""
    homes = (Path("/home"), Path("/root"), Path("/run/user"))
    return any(path.is_relative_to(home) for path in (place.program, place.data) for home in homes)


def _quoted(text: str) -> str:
    """A path as systemd reads it: its own signs doubled, the rest in quotes where that is needed."""
    text = text.replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"' if set(text) & set(" \t'\"\\;") else text


def next_steps(names: Collection[str], *, of_root: bool = True) -> list[str]:
    """The commands to run next."""
    systemctl = "systemctl" if of_root else "systemctl --user"
    steps = [f"{systemctl} daemon-reload"]
    if "deployer.target" in names:
        workers = ["deployer-worker@1.service", "deployer-worker@2.service"]
        own = [name for name in names if name not in {"deployer.target", "deployer-worker@.service"}]
        own += workers if "deployer-worker@.service" in names else []
        steps.append(f"systemctl enable {' '.join(own)}")
        steps.append("systemctl enable --now deployer.target")
    else:
        steps.append(f"{systemctl} enable --now deployer.service")
    return steps
