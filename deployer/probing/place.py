"""A server that can be asked about a project, and where it lies there, whatever that is called."""

import hashlib
from dataclasses import dataclass
from typing import Protocol

from deployer.plan import Plan
from projects.commands.expectation import NOTHING, Live
from projects.commands.look import Facts
from servers.models import Server
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


def real_place(server: Server, facts: Facts) -> str:
    """A digest of the machine and the real folder that were looked at; empty where the server cannot tell.

    Two servers with the same one are one machine under two names, and one folder there. A copied machine has the same
    machine id, a container the same boot, a hostile one says whatever it likes: so all of it must agree, and the host
    key, which nobody can show who does not have it.
    """
    machine = facts.machine
    if not (machine.boot and machine.processes and facts.inode and server.host_key):
        return ""
    key = " ".join(server.host_key.split()[:2])
    known = (key, machine.id, machine.boot, machine.processes, facts.inode, facts.rest)
    return hashlib.sha256("\n".join(known).encode(errors="surrogateescape")).hexdigest()
