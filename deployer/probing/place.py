"""A server that can be asked about a project."""

from dataclasses import dataclass
from typing import Protocol

from deployer.plan import Plan
from projects.commands.expectation import NOTHING, Live
from servers.ssh.shell import SSHShell


class Place(Protocol):
    """A server that can be asked about a project: a link to it, what was planned, where it lies and what is live."""

    @property
    def plan(self) -> Plan: ...

    @property
    def link(self) -> SSHShell: ...

    @property
    def deploy_path(self) -> str: ...

    @property
    def live(self) -> Live: ...


@dataclass
class Visit:
    """A server that is only looked at: a `Place` outside of a deployment."""

    plan: Plan
    link: SSHShell
    deploy_path: str = ""
    live: Live = NOTHING
