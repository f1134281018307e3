"""Access to pages: views for users who are logged in, for those with a permission, for superusers.

Everybody who is logged in can see everything, launch, cancel, continue, retry and roll back: this is on purpose for
now, and no permission guards it. Permissions guard what is edited: servers, groups, credentials and projects.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django_htmx.http import HttpResponseClientRefresh
from django_htmx.middleware import HtmxDetails

from people.models import User

View = Callable[..., HttpResponseBase]


class Request(HttpRequest):
    """A request of somebody who is logged in."""

    user: "User"
    htmx: HtmxDetails


def needs(*permissions: str) -> Callable[[View], View]:
    """A view for people with all of ``permissions``, such as ``servers.add_server``.

    A visitor is sent to the login; where a part of a page was asked for, the page is reloaded, and so leads there.
    """

    def closed(view: View) -> View:
        @wraps(view)
        def checked(request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not request.user.is_authenticated:
                return HttpResponseClientRefresh() if request.htmx else redirect_to_login(request.get_full_path())
            if not request.user.has_perms(permissions):
                raise PermissionDenied
            return view(request, *args, **kwargs)

        return checked

    return closed


def members_only(view: View) -> View:
    """A view for people who are logged in; every page and every action that needs no permission is marked with this.

    Only a part of a page that is asked for again and again differs (deployer.web.request): a visitor never gets it, but
    the page it belongs to, and so the login.
    """
    return needs()(view)


def superusers_only(view: View) -> View:
    """A view for superusers alone."""

    @members_only
    @wraps(view)
    def checked(request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_superuser:
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return checked
