"""The ways on from the page of a deployment: what is most likely wanted now comes first."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from django.utils.translation import gettext as _

from deployer.models import Deployment

#: Buttons that are always in view; the other ways are in a menu.
IN_VIEW = 2


@dataclass(frozen=True)
class Way:
    """A link to ``page`` of a deployment; where it is refused, ``refusal`` says why, and it leads nowhere.

    ``asks``: that page first shows what will happen; ``in_dialog``: over this one, where there is a script. One that
    is wanted rarely is always in the menu.
    """

    page: str
    label: str
    icon: str = ""
    look: str = "btn-outline-secondary"
    hint: str = ""
    refusal: str = ""
    asks: bool = True
    in_dialog: bool = True
    is_rare: bool = False

    @property
    def key(self) -> str:
        """Its name within the page."""
        return self.page.removeprefix("deployment_")


def ways_of(it: Deployment, head: Mapping[str, Any]) -> tuple[list[Way], list[Way]]:
    """Those that are in view, and the others; ``head`` says what the visitor may do with it."""
    found = [*(_of_active(it, head) if it.is_active else _of_ended(it, head))]
    shown = [way for way in found if not (way.refusal or way.is_rare)][:IN_VIEW]
    return shown, [way for way in found if way not in shown]


def _of_active(it: Deployment, head: Mapping[str, Any]) -> Iterator[Way]:
    if it.cancel_requested_at is not None:
        if head["operable"] and it.force_requested_at is None:
            hint = _("Also end scripts running on servers")
            yield Way("deployment_cancel", _("Force"), look="btn-outline-danger", hint=hint)
        return
    if head["waits_for_you"]:
        yield Way("deployment_decide", _("Approve or reject"), look="btn-primary")
    if head["operable"] and head["question"]:
        yield Way("deployment_answer", _("Choose"), look="btn-primary")
    if head["operable"] and head["paused"]:
        yield Way("deployment_continue", _("Continue"), look="btn-primary")
    if head["operable"]:
        yield Way("deployment_cancel", _("Cancel"), "stop", "btn-outline-danger")
    if head["can_abort"]:
        yield Way("deployment_abort", _("Abort and roll back"), "undone", is_rare=True)
    if head["may_override"]:
        yield Way("deployment_override", _("Override"), is_rare=True)


def _of_ended(it: Deployment, head: Mapping[str, Any]) -> Iterator[Way]:
    no_retry, no_roll_back = head["retry_refusal"], head["rollback_refusal"]
    no_retry = no_retry and _("No way to retry: %(why)s") % {"why": no_retry}
    no_roll_back = no_roll_back and _("No way to roll back: %(why)s") % {"why": no_roll_back}
    retry = Way("deployment_retry", _("Retry failed"), refusal=no_retry)
    again = Way("deployment_again", _("Run again"), in_dialog=False)
    roll_back = Way("deployment_rollback", _("Roll back"), "undone", refusal=no_roll_back)
    # The same commit would most likely not build again.
    order = [again, retry, roll_back] if head["build_failed"] else [retry, roll_back, again]
    allowed = {retry: head["can_retry"], again: head["can_launch"], roll_back: head["can_roll_back"]}
    ways = [way for way in order if allowed[way]]
    main = next((way for way in ways if not way.refusal and way is not roll_back), None)
    yield from (replace(way, look="btn-primary") if way is main else way for way in ways)
    yield Way("deployment_variables", _("Variables"), asks=False, in_dialog=False, is_rare=True)
    if head["has_previous"]:
        yield Way("deployment_previous", _("Compare with the previous one"), asks=False, in_dialog=False, is_rare=True)


def waits_for_a_person(it: Deployment) -> bool:
    """Whether it has been begun, and goes no further until somebody chooses how: it does not go on by itself."""
    goes_on = it.paused_until is not None and not it.is_asking
    return it.is_paused and not goes_on and it.cancel_requested_at is None
