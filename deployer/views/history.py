"""Every deployment, newest first."""

from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from deployer.forms import HistoryFilter
from deployer.models import Deployment
from deployer.views.request import Request

HISTORY_PAGE = 50


@require_safe
@login_required
def history(request: Request) -> HttpResponse:
    """Every deployment, newest first."""
    form = HistoryFilter(request.GET)
    page = Paginator(Deployment.objects.listed().filter(**form.lookups()), HISTORY_PAGE).get_page(
        request.GET.get("page")
    )
    return render(request, "deployer/history.html", {"form": form, "page": page, "is_filtered": bool(form.lookups())})
