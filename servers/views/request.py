"""Requests of people who are logged in, and who of them may do what."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_required, permission_required
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django_htmx.http import HttpResponseClientRefresh
from django_htmx.middleware import HtmxDetails

View = Callable[..., HttpResponse]


class Request(HttpRequest):
    """A request of somebody who is logged in."""

    user: User
    htmx: HtmxDetails


def allowed(*permissions: str) -> Callable[[View], View]:
    """A view for those who have all of these permissions of this floor, such as ``add_server``."""
    names = [f"servers.{name}" for name in permissions]

    def closed(view: View) -> View:
        return login_required(permission_required(names, raise_exception=True)(view))

    return closed


def members_only(view: View) -> View:
    """A view for whoever is logged in; whoever asks for a part of a page without a session gets the page anew."""

    @wraps(view)
    def checked(request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        if not request.user.is_authenticated and request.htmx:
            return HttpResponseClientRefresh()
        return login_required(view)(request, *args, **kwargs)

    return checked
