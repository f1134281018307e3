"""The webhooks of a project, the form of one, its secret, which is shown once, and its deliveries."""

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import OuterRef, Subquery
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from deployer.models import Delivery, Webhook
from deployer.queue.sending import enqueue_deliveries
from deployer.triggers import by_hand
from deployer.triggers.webhook_forms import WebhookForm
from pages.forms import as_sent
from people.access import Request, find, members_only
from people.models import User
from people.record import delete
from people.rights import may
from people.roles import Action
from projects.models import Project

#: Deliveries on one page.
DELIVERIES_PAGE = 30

form_page = require_http_methods(["GET", "HEAD", "POST"])


def webhooks_of(project: Project) -> Any:
    """The webhooks of a project as its page lists them, each with its last delivery."""
    last = Delivery.objects.filter(webhook=OuterRef("pk")).order_by("-pk")
    rows = project.webhooks.select_related("owner").prefetch_related("server_groups")
    return rows.annotate(
        last_at=Subquery(last.values("received_at")[:1]), last_outcome=Subquery(last.values("outcome")[:1])
    )


@form_page
@members_only
def webhook_add(request: Request, pk: int) -> HttpResponse:
    """A new webhook, with the rights of whoever adds it; its secret is shown at once, and never again."""
    project = find(request.user, Project.objects, Action.EDIT, pk=pk)
    project.insist_on_current()
    it = Webhook(project=project, owner=request.user)
    form = as_sent(WebhookForm, request.POST, instance=it, user=request.user)
    if form.keep():
        return _secret(request, form.instance, form.instance.secret)
    return _form(request, form, it, _("Add a webhook"))


@require_safe
@members_only
def webhook(request: Request, pk: int) -> HttpResponse:
    """A webhook: what it launches, how it is set up at its sender, and what was sent to it."""
    it = _found(request.user, pk)
    editable = may(request.user, Action.EDIT, it) and not it.project.is_archived
    rows = it.deliveries.select_related("deployment", "sent_by").defer("deployment__plan")
    context = {
        "webhook": it,
        "project": it.project,
        "groups": it.groups(),
        "page": Paginator(rows, DELIVERIES_PAGE).get_page(request.GET.get("page")),
        "editable": editable,
        "operable": may(request.user, Action.OPERATE, it) and not it.project.is_archived,
        "address": request.build_absolute_uri(it.address) if editable else "",
    }
    return render(request, "deployer/webhooks/webhook.html", context)


@form_page
@members_only
def webhook_edit(request: Request, pk: int) -> HttpResponse:
    """Change a webhook; its owner stays."""
    it = _edited(request, pk)
    form = as_sent(WebhookForm, request.POST, instance=it, user=request.user)
    if form.keep():
        messages.success(request, _("Saved."))
        return redirect(it)
    return _form(request, form, it, _("Edit %s") % it)


@form_page
@members_only
def webhook_delete(request: Request, pk: int) -> HttpResponse:
    """Forget a webhook and its deliveries; what it has launched stays."""
    it = _edited(request, pk)
    if request.method == "POST":
        delete(it)
        messages.success(request, _("“%s” was deleted.") % it)
        return redirect("project_triggers", it.project_id)
    return render(request, "deployer/webhooks/delete.html", {"it": it, "project": it.project})


@require_POST
@members_only
def webhook_renew(request: Request, pk: int) -> HttpResponse:
    """A new secret, shown once; the former one holds until the first delivery with the new one, or a day."""
    it = _edited(request, pk)
    return _secret(request, it, by_hand.renew_secret(it), is_renewed=True)


@require_POST
@members_only
def webhook_pause(request: Request, pk: int) -> HttpResponse:
    """Pause a webhook, or let it launch again."""
    it = _edited(request, pk)
    resumes = "resume" in request.POST
    if resumes:
        by_hand.resume_webhook(it)
    else:
        by_hand.pause_webhook(it, request.user)
    messages.success(request, _("It launches again.") if resumes else _("It launches nothing until it is resumed."))
    return redirect(it)


@require_POST
@members_only
def webhook_take(request: Request, pk: int) -> HttpResponse:
    """Have it launch with one's own rights from now on."""
    it = _edited(request, pk)
    by_hand.take_over(it, request.user)
    messages.success(request, _("It launches with your rights from now on."))
    return redirect(it)


@require_POST
@members_only
def webhook_test(request: Request, pk: int) -> HttpResponse:
    """Find out what a delivery would launch."""
    it = _found(request.user, pk, Action.OPERATE)
    it.project.insist_on_current()
    return redirect(by_hand.send_test(it, request.user))


@require_safe
@members_only
def delivery(request: Request, pk: int) -> HttpResponse:
    """One delivery: what was read of it, what became of it, and why."""
    it = _delivery(request.user, pk)
    context = {
        "delivery": it,
        "webhook": it.webhook,
        "project": it.project,
        "operable": may(request.user, Action.OPERATE, it) and not it.project.is_archived,
    }
    return render(request, "deployer/webhooks/delivery.html", context)


@require_POST
@members_only
def delivery_again(request: Request, pk: int) -> HttpResponse:
    """Send it once more; one that waits for a worker is only told of to the workers."""
    it = _delivery(request.user, pk, Action.OPERATE)
    it.project.insist_on_current()
    if it.may_be_sent_again:
        return redirect(by_hand.send_again(it, request.user))
    if not it.is_handled:
        transaction.on_commit(enqueue_deliveries)
    messages.warning(request, _("There is nothing in it that could be launched, or it is not handled yet."))
    return redirect(it)


def _found(user: User, pk: int, action: Action = Action.SEE) -> Webhook:
    return find(user, Webhook.objects.select_related("project", "owner"), action, pk=pk)


def _edited(request: Request, pk: int) -> Webhook:
    it = _found(request.user, pk, Action.EDIT)
    it.project.insist_on_current()
    return it


def _delivery(user: User, pk: int, action: Action = Action.SEE) -> Delivery:
    rows = Delivery.objects.select_related("webhook__project", "project", "deployment", "sent_by", "again_of")
    return find(user, rows.defer("deployment__plan"), action, pk=pk)


def _form(request: Request, form: WebhookForm, it: Webhook, title: str) -> HttpResponse:
    back = it.get_absolute_url() if it.pk else reverse("project_triggers", args=[it.project_id])
    context = {"form": form, "webhook": it, "project": it.project, "title": title, "back": back}
    return render(request, "deployer/webhooks/form.html", context)


def _secret(request: Request, it: Webhook, secret: str, *, is_renewed: bool = False) -> HttpResponse:
    context = {"webhook": it, "project": it.project, "secret": secret, "is_renewed": is_renewed}
    context["address"] = request.build_absolute_uri(it.address)
    answer = render(request, "deployer/webhooks/secret.html", context)
    answer["Cache-Control"] = "no-store"
    return answer
