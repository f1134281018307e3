"""What an approval is given for, as one digest: the code, the steps, the variables, and the servers in their order."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

from django.utils.crypto import salted_hmac

from deployer.models import Deployment, Release, Target
from deployer.plan import Plan, PlannedFile
from projects.effective import Value

#: What of a plan is known by the code, by the servers, or by fingerprints.
_KNOWN_OTHERWISE = (
    *("commit", "groups", "variables", "layers", "answers", "values_of"),
    *("config_files", "server_places", "overwrite_changed"),
)


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
        where = list(self.servers if servers is None else servers)
        whole: list[Any] = [self.code, self.deployment_type, values, _fingerprints(self.plan.variables), where]
        if self.plan.layers or self.plan.answers:  # without them it is the digest that it was before they were known
            layers = [(each.kind, each.number, each.servers, _fingerprints(each.values)) for each in self.plan.layers]
            whole += [layers, _fingerprints(self.plan.answers)]
        if self.plan.config_files:
            whole += [[_printed(file) for file in self.plan.config_files], self.plan.overwrite_changed]
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def code_of(commit: str, release: Release | None) -> str:
    """The code of a `Content`."""
    return commit or (release.sha256 if release is not None else "")


def _fingerprints(values: Iterable[Value]) -> list[tuple[str, str, bool, str]]:
    return [(each.name, each.scope, each.is_secret, _fingerprint(_whole(each))) for each in values]


def _whole(value: Value) -> str:
    """A value; of one from outside where it is from, which no value can look like."""
    return f"\0{value.source}" if value.source else value.value


def _fingerprint(value: str) -> str:
    """A value so that nobody can guess it from its digest."""
    return salted_hmac("deployer.gates.variable", value, algorithm="sha256").hexdigest()


def _printed(file: PlannedFile) -> list[Any]:
    """A config file as a digest takes it: whom it is for, and what it holds by a fingerprint."""
    told = {**asdict(file), "content": _fingerprint(file.content), "check": _fingerprint(file.check)}
    return [told[name] for name in sorted(told)]


def _worked_on(deployment: Deployment) -> list[Target]:
    targets = deployment.targets.select_related("server").order_by("batch", "id")
    return [target for target in targets if not target.was_left_out]


def _address(target: Target) -> str:
    """Where it would go now: a server can be given another address while a deployment to it waits."""
    return target.server.address if target.server is not None else target.host
