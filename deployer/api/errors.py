"""Errors of the JSON API that are found outside its endpoints: their answers are problem details too."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase
from django.utils.translation import gettext as _

from pages.problems import CONTENT_TYPE, problem

#: Everything below this answers in JSON, whether there is an endpoint or not.
BELOW = "/api/"
#: Headers of an error that say more than its body.
_TELLING = ("Allow", "WWW-Authenticate", "Retry-After", "RateLimit", "RateLimit-Policy")


class JsonErrors:
    """Middleware that gives every error below `BELOW` the shape of the API's own; it stands outside all that may fail.

    What an endpoint itself refuses has that shape already, and passes.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._get_response(request)
        if not request.path_info.startswith(BELOW) or response.status_code < 400:
            return response
        if response.headers.get("Content-Type", "").startswith(CONTENT_TYPE):
            return response
        answer = problem(response.status_code, _sentence(request, response))
        for name in _TELLING:
            if name in response.headers:
                answer[name] = response.headers[name]
        return answer


def _sentence(request: HttpRequest, response: HttpResponseBase) -> str:
    if response.status_code == 404:
        return _("There is nothing at this address: /api/v1/docs lists what there is.")
    if response.status_code == 405:
        words = {"allowed": response.headers.get("Allow", ""), "method": request.method}
        return _("This address takes %(allowed)s, not %(method)s.") % words
    if response.status_code == 403:
        return _("This is not allowed.")
    if response.status_code == 413:
        return _("The request is larger than this site takes.")
    if response.status_code < 500:
        return _("The request cannot be read: %s.") % response.reason_phrase
    return _("The request failed by a mistake of deployer's own: its log says more.")
