"""What an approval is given for, as one digest: the code, the steps, the variables, and the servers in their order."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from django.utils.crypto import salted_hmac

from deployer.models import Deployment, Release, Target
from deployer.plan import Plan

#: What of a plan says nothing of its own: it is known by the code, or by the servers.
_KNOWN_OTHERWISE = ("commit", "groups", "variables")


@dataclass(frozen=True)
class Content:
    """What a launch would do. ``code`` is the commit, else the digest of the archive; empty where only is restarted."""

    code: str
    deployment_type: str
    plan: Plan
    servers: tuple[str, ...]

    @classmethod
    def of(cls, deployment: Deployment) -> "Content":
        """That of a deployment that was written. Raises `DecryptionError` where its plan cannot be read."""
        plan = Plan.from_json(cast(dict[str, Any], deployment.plan))
        known = "" if deployment.keeps_release else deployment.commit_hash or plan.commit
        return cls(
            code_of(known, deployment.release),
            deployment.deployment_type,
            plan,
            tuple(f"{target.server_id} {_address(target)}" for target in _worked_on(deployment)),
        )

    def digest(self, servers: Sequence[str] | None = None) -> str:
        """It as a digest; with ``servers``, as if it went to those."""
        values = {name: value for name, value in self.plan.to_json().items() if name not in _KNOWN_OTHERWISE}
        variables = [(row.name, row.scope, row.is_secret, _fingerprint(row.value)) for row in self.plan.variables]
        whole = [self.code, self.deployment_type, values, variables, list(self.servers if servers is None else servers)]
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def code_of(commit: str, release: Release | None) -> str:
    """The code of a `Content`."""
    return commit or (release.sha256 if release is not None else "")


def _fingerprint(value: str) -> str:
    """A value so that nobody can guess it from its digest."""
    return salted_hmac("deployer.gates.variable", value, algorithm="sha256").hexdigest()


def _worked_on(deployment: Deployment) -> list[Target]:
    targets = deployment.targets.select_related("server").order_by("batch", "id")
    return [target for target in targets if not target.was_left_out]


def _address(target: Target) -> str:
    """Where it would go now: a server can be given another address while a deployment to it waits."""
    return target.server.address if target.server is not None else target.host
