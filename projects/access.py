"""Who may use a page: views that want a permission."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django_htmx.http import HttpResponseClientRefresh

View = Callable[..., HttpResponse]


def needs(*permissions: str) -> Callable[[View], View]:
    """A view for people with all of ``permissions``; a visitor is sent to the login, out of a fragment too."""

    def closed(view: View) -> View:
        @wraps(view)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if not request.user.is_authenticated:
                in_fragment = request.headers.get("HX-Request") == "true"
                return HttpResponseClientRefresh() if in_fragment else redirect_to_login(request.get_full_path())
            if not request.user.has_perms(permissions):
                raise PermissionDenied
            return view(request, *args, **kwargs)

        return checked

    return closed


def superusers(view: View) -> View:
    """A view for superusers alone."""

    @wraps(view)
    @needs()
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not getattr(request.user, "is_superuser", False):
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return checked
