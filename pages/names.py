"""The names that a box for one proposes as it is typed."""

from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

#: Names that are proposed at once.
PROPOSED = 20


def proposed(request: HttpRequest, rows: "QuerySet[Any]") -> HttpResponse:
    """Options of the names in which the one value of the address is found, those that begin with it first."""
    text = next(iter(request.GET.dict().values()), "").strip()[:100]
    names = rows.order_by("name").values_list("name", flat=True)
    found = list(names.filter(name__istartswith=text)[:PROPOSED])
    if text and len(found) < PROPOSED:
        found += names.filter(name__icontains=text).exclude(name__istartswith=text)[: PROPOSED - len(found)]
    return render(request, "_options.html", {"names": found})
