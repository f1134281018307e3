"""Access to pages: views for people who are logged in, and the rows that they may see or do something with.

What is out of somebody's sight is not there (404); what they see and may not do is refused with who may (403).
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, Protocol, TypeVar

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django_htmx.http import HttpResponseClientRefresh
from django_htmx.middleware import HtmxDetails

from people.models import User
from people.refusals import RefusedError
from people.rights import NotAllowedError, Person, insist, reach
from people.roles import EVERYWHERE, Action

View = Callable[..., HttpResponseBase]
Row = TypeVar("Row", bound=Model)
Row_co = TypeVar("Row_co", bound=Model, covariant=True)


class Reached(Protocol[Row_co]):
    """Rows that know which of them somebody reaches: a manager or a queryset."""

    def reached_by(self, user: Person, action: Action = ...) -> QuerySet[Row_co]:
        """Those that ``user`` sees, or with which they may do ``action``."""
        ...

    def filter(self, *conditions: Any, **lookups: Any) -> QuerySet[Row_co]:
        """Those of them that fit."""
        ...


class Request(HttpRequest):
    """A request of somebody who is logged in."""

    user: "User"
    htmx: HtmxDetails


def members_only(view: View) -> View:
    """A view for people who are logged in; every page and every action is marked with this, or with what follows.

    A visitor is sent to the login; where a part of a page was asked for, the page is reloaded, and so leads there. Only
    a part of a page that is asked for again and again differs (deployer.web.request): a visitor never gets it.
    """

    @wraps(view)
    def checked(request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return HttpResponseClientRefresh() if request.htmx else redirect_to_login(request.get_full_path())
        return view(request, *args, **kwargs)

    return checked


def needs_somewhere(action: Action, *, in_an_environment: bool = False) -> Callable[[View], View]:
    """A view for people who may do ``action`` in some place; the view asks about the place.

    ``in_an_environment``: in a whole one, where a single project is not enough.
    """

    def closed(view: View) -> View:
        @members_only
        @wraps(view)
        def checked(request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:
            reached = reach(request.user, action)
            if not (reached.holds_an_environment if in_an_environment else reached):
                insist(request.user, action, EVERYWHERE)
            return view(request, *args, **kwargs)

        return checked

    return closed


def superusers_only(view: View) -> View:
    """A view for superusers alone."""

    @members_only
    @wraps(view)
    def checked(request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_superuser:
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return checked


def find(user: Person, rows: Reached[Row], action: Action = Action.SEE, **lookups: Any) -> Row:
    """The row of ``lookups`` with which ``user`` may do ``action``.

    Raises `Http404` where there is none in sight, `NotAllowedError` where they see it and may not do this.
    """
    row: Any = get_object_or_404(rows.reached_by(user), **lookups)
    if action is not Action.SEE:
        insist(user, action, row)
    found: Row = row
    return found


def choices(user: Person, rows: Reached[Row], action: Action, chosen: Any = ()) -> QuerySet[Row]:
    """The rows to choose from: those with which ``user`` may do ``action``, and those of the ids ``chosen`` before."""
    reached = Q(pk__in=rows.reached_by(user, action).order_by().values("pk"))
    return rows.filter(reached | Q(pk__in=chosen))


def refused(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """The page of a 403: who may do it, where that is known, or why nobody may."""
    who = exception.who if isinstance(exception, NotAllowedError) else []
    refusal = exception if isinstance(exception, RefusedError) else None
    return render(request, "403.html", {"who": who, "refusal": refusal}, status=403)
