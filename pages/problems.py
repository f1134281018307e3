"""An error as a program reads it: the problem details of RFC 9457, in one shape for all addresses of the API."""

from http import HTTPStatus
from typing import Any

from django.http import HttpResponse, JsonResponse

CONTENT_TYPE = "application/problem+json"


def details(status: int, detail: str, *, field: str = "", blocking: int | None = None) -> dict[str, Any]:
    """``detail`` is a sentence, ``field`` the input at fault, ``blocking`` the number of the deployment in the way."""
    known = {each.value: each.phrase for each in HTTPStatus}
    title = known.get(status, "Error")
    shape = {"type": "about:blank", "title": title, "status": status}
    return {**shape, "detail": detail, "field": field, "blocking": blocking}


def problem(status: int, detail: str, *, field: str = "", blocking: int | None = None) -> HttpResponse:
    """The answer with these `details`."""
    body = details(status, detail, field=field, blocking=blocking)
    return JsonResponse(body, status=status, content_type=CONTENT_TYPE)
