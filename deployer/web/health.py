"""What monitors ask: whether this process lives, whether it can answer, how the installation is, and its figures.

They come by any name and by plain http, as a balancer does: they are answered before the site looks at either.
"""

import time
from collections.abc import Callable

from django.conf import settings
from django.core.cache import caches
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseNotAllowed, JsonResponse
from django.utils import translation
from django.utils.crypto import constant_time_compare

from deployer.ids import request as current
from deployer.ids import request_id
from deployer.watching.finding import Finding
from deployer.watching.metrics import exposition, forget_the_dead, observe
from deployer.watching.ready import not_ready
from deployer.watching.running import findings
from people.origin import comes_from

Answer = Callable[[HttpRequest], HttpResponseBase]

#: Seconds for which this process takes its readiness to hold: strangers ask as often as they like.
READY_HOLDS = 2


class Health:
    """Answers monitors, gives each other request its id, and counts how long its answer takes."""

    def __init__(self, get_response: Answer) -> None:
        self._get_response = get_response
        forget_the_dead()

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        answer = _ANSWERS.get(request.path_info)
        if answer is not None:
            return _for_monitors(answer, request)
        token = current.set(request_id(request.headers.get("X-Request-ID", "")))
        begun = time.perf_counter()
        try:
            response = self._get_response(request)
            response.headers["X-Request-ID"] = current.get()
        finally:
            current.reset(token)
        if "wait" not in request.GET:  # who asked to wait was not kept waiting
            observe(_kind(request.path_info), time.perf_counter() - begun)
        return response


def _for_monitors(answer: Callable[[HttpRequest], HttpResponse], request: HttpRequest) -> HttpResponse:
    if request.method not in {"GET", "HEAD"}:
        return HttpResponseNotAllowed(["GET", "HEAD"])
    with translation.override(settings.LANGUAGE_CODE):
        response = answer(request)
    response.headers["Cache-Control"] = "no-store"
    return response


def _kind(path: str) -> str:
    if path.startswith("/api/"):
        return "api"
    if path.startswith("/hooks/"):
        return "hook"
    return "poll" if path.endswith("/poll/") or path in {"/activity/", "/overview/"} else "page"


def live(_request: HttpRequest) -> HttpResponse:
    """Whether this process answers at all."""
    return HttpResponse("ok\n", content_type="text/plain; charset=utf-8")


def ready(_request: HttpRequest) -> HttpResponse:
    """Whether it can answer requests: 503 takes it out of a balancer."""
    found: list[Finding] | None = caches["process"].get("not-ready")
    if found is None:
        found = not_ready(goes_on=True)
        caches["process"].set("not-ready", found, READY_HOLDS)
    return JsonResponse({"ready": not found, "findings": _told(found)}, status=503 if found else 200)


def status(_request: HttpRequest) -> HttpResponse:
    """How the installation is: 200 whatever was found, for no balancer should act on it."""
    found = findings()
    return JsonResponse({"status": "findings" if found else "well", "findings": _told(found)})


def _told(found: list[Finding]) -> list[dict[str, str]]:
    """What strangers may read of it."""
    return [{"subject": it.subject, "level": it.level.value, "what": it.what} for it in found]


def metrics(request: HttpRequest) -> HttpResponse:
    """The figures for Prometheus, for who has the token or comes from one of the networks; nobody else finds them."""
    kind, _blank, given = request.headers.get("Authorization", "").partition(" ")
    token = settings.DEPLOYER_METRICS_TOKEN
    is_known = bool(token) and kind.lower() == "bearer" and constant_time_compare(given.strip(), token)
    if not (is_known or comes_from(request, settings.DEPLOYER_METRICS_NETWORKS)):
        return HttpResponse("not found\n", status=404, content_type="text/plain; charset=utf-8")
    return HttpResponse(exposition(), content_type="text/plain; version=0.0.4; charset=utf-8")


_ANSWERS = {"/health/live": live, "/health/ready": ready, "/health/status": status, "/metrics": metrics}
