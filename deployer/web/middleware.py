"""What holds for every answer of the site: nobody keeps a copy, and a secret that cannot be read is said."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.utils.cache import patch_cache_control
from django.utils.translation import gettext as _

from projects.frozen import NewerPlanError
from servers.fields import DecryptionError

Answer = Callable[[HttpRequest], HttpResponseBase]


def keep_no_copies(get_response: Answer) -> Answer:
    """No browser and no proxy stores an answer: after a logout, "back" shows nothing. Static files never come here."""

    def answer(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        patch_cache_control(response, private=True, no_store=True)
        return response

    return answer


class UnreadableSecrets:
    """A page that cannot do without a secret that no key opens says which one is to be entered again.

    One that needs a plan which a newer version has frozen says that.
    """

    def __init__(self, get_response: Answer) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """The page in place of the one that was asked for; a part of a page is answered by a part."""
        if not isinstance(error, DecryptionError):
            return None
        if getattr(request, "htmx", False):
            return render(request, "_unreadable.html", {"why": str(error)})
        is_newer = isinstance(error, NewerPlanError)
        title = _("This was launched by a newer deployer") if is_newer else _("A secret cannot be read")
        return render(request, "unreadable.html", {"title": title, "why": str(error)}, status=409)
