"""What templates ask about rights: a button that would be refused is not shown."""

from typing import Any

from django import template

from people import rights
from people.roles import EVERYWHERE, Action

register = template.Library()


@register.simple_tag(takes_context=True)
def may(context: dict[str, Any], action: str, thing: rights.Standing) -> bool:
    """Whether the visitor may do this: ``{% may "edit" server as editable %}``."""
    return rights.may(context["request"].user, Action[action.upper()], thing)


@register.simple_tag(takes_context=True)
def may_somewhere(context: dict[str, Any], action: str) -> bool:
    """Whether there is a place where the visitor may do this."""
    return bool(rights.reach(context["request"].user, Action[action.upper()]))


@register.simple_tag(takes_context=True)
def may_in_an_environment(context: dict[str, Any], action: str) -> bool:
    """Whether there is a whole environment where the visitor may do this: servers stand in one, not in a project."""
    return rights.reach(context["request"].user, Action[action.upper()]).holds_an_environment


@register.simple_tag(takes_context=True)
def may_everywhere(context: dict[str, Any], action: str) -> bool:
    """Whether the visitor may do this in every place, and to the installation itself."""
    return rights.may(context["request"].user, Action[action.upper()], EVERYWHERE)
