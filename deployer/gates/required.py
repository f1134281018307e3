"""What a rollout of a project needs: the rules of its environment and of itself, taken together."""

from dataclasses import dataclass

from deployer.models import GateRule
from people.models import Team
from projects.models import Project


@dataclass(frozen=True)
class Required:
    """Where both rules ask for something, the stricter one counts.

    ``teams`` are those whose members approve: the project's where it names some, for two lists could leave nobody.
    """

    approval: bool = False
    teams: tuple[Team, ...] = ()
    proof_hours: int | None = None
    proof_is_enough: bool = False
    exempts_restarts: bool = False

    @classmethod
    def of(cls, project: Project) -> "Required":
        """What is required now."""
        rules = list(GateRule.objects.before(project).prefetch_related("approvers"))
        asking = [rule for rule in rules if rule.needs_approval]
        hours = [rule.proof_hours for rule in rules if rule.proof_hours is not None]
        named = [teams for rule in asking if (teams := tuple(rule.approvers.all()))]
        return cls(
            approval=bool(asking),
            teams=named[-1] if named else (),
            proof_hours=max(hours, default=None),
            proof_is_enough=bool(hours) and all(rule.proof_is_enough for rule in asking),
            exempts_restarts=all(rule.exempts_restarts for rule in asking),
        )


#: Where no rule asks for anything.
NOTHING = Required()
