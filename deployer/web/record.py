"""The page of the record: who did what, when and from where, for whoever administers the place where it happened."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import HttpResponseBase, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_safe

from deployer.board.entries import Change, in_words, kinds, label_of, model_of
from deployer.web.downloads import download
from deployer.web.forms import ProjectChoice
from people.access import Request, needs_somewhere
from people.models import Entry
from people.reading import as_csv, as_json_lines, in_pages, readable_by
from people.record import Act, Thing, actor, record
from people.roles import Action
from people.sinks import problems
from projects.models import Project
from servers.models import Environment

#: Entries on a page.
RECORD_PAGE = 50


class RecordFilter(forms.Form):
    """Selects the entries to show; invalid values are ignored."""

    who = forms.CharField(required=False, max_length=100)
    act = forms.ChoiceField(choices=[("", gettext_lazy("Everything")), *Act.choices], required=False)
    kind = forms.ChoiceField(required=False)
    project = ProjectChoice(Project.objects.none(), required=False, empty_label=gettext_lazy("All projects"))
    environment = forms.ChoiceField(
        choices=[("", gettext_lazy("All environments")), *Environment.choices], required=False
    )
    since = forms.DateField(required=False)
    until = forms.DateField(required=False)
    text = forms.CharField(required=False, max_length=100)

    def __init__(self, query: QueryDict, user: Any) -> None:
        super().__init__(query)
        own: Any = self.fields
        own["kind"].choices = [("", _("Everything")), *sorted(kinds().items(), key=lambda kind: kind[1].lower())]
        own["project"].queryset = Project.objects.reached_by(user, Action.ADMINISTER).with_archived_last()
        own["project"].settle(is_small=True)
        self.is_valid()

    def condition(self) -> Q:
        """The condition for the chosen entries; empty where nothing is chosen."""
        values, wanted = self.cleaned_data, Q()
        if who := values.get("who"):
            wanted &= Q(user_name__icontains=who) | Q(login__icontains=who) | Q(token__icontains=who)
        for name in ("act", "kind"):
            if value := values.get(name):
                wanted &= Q((name, value))
        if project := values.get("project"):
            wanted &= Q(project=project.pk)
        elif part := self._part_of_a_name():
            wanted &= Q(project__in=[*self._projects().filter(name__icontains=part).values_list("pk", flat=True)])
        if environment := values.get("environment"):
            wanted &= Q(environments__contains=f",{environment},")
        if since := values.get("since"):
            wanted &= Q(at__date__gte=since)
        if until := values.get("until"):
            wanted &= Q(at__date__lte=until)
        if text := values.get("text"):
            wanted &= Q(name__icontains=text) | Q(note__icontains=text) | Q(address__icontains=text)
        return wanted

    def _projects(self) -> "QuerySet[Project]":
        field: Any = self.fields["project"]
        rows: QuerySet[Project] = field.queryset
        return rows

    def _part_of_a_name(self) -> str:
        """What is typed for all projects with it in their names, where they are too many for a list."""
        field: Any = self.fields["project"]
        return str(self.data.get("project") or "").strip()[:100] if field.is_typed else ""


@dataclass(frozen=True)
class Row:
    """An entry as the page shows it."""

    entry: Entry
    kind: str
    address: str
    source: list[str]
    note: str
    changes: list[Change]


@require_safe
@needs_somewhere(Action.ADMINISTER)
def record_page(request: Request) -> HttpResponseBase:
    """The entries, the newest first."""
    form = RecordFilter(request.GET, request.user)
    found = readable_by(request.user).filter(form.condition())
    page: Any = Paginator(found.order_by("-pk"), RECORD_PAGE).get_page(request.GET.get("page"))
    context = {
        "form": form,
        "page": page,
        "rows": [*_rows(page.object_list)],
        "is_filtered": bool(form.condition()),
        "problems": problems() if request.user.is_superuser else [],
    }
    return render(request, "deployer/record.html", context)


@require_safe
@needs_somewhere(Action.ADMINISTER)
def record_export(request: Request) -> HttpResponseBase:
    """The chosen entries as a file: ``format=csv``, or lines of JSON. That somebody took it is recorded, too."""
    form = RecordFilter(request.GET, request.user)
    found = readable_by(request.user).filter(form.condition())
    is_csv = request.GET.get("format") == "csv"
    newest = found.order_by("-pk").values_list("pk", flat=True).first() or 0
    lines = (as_csv if is_csv else as_json_lines)(in_pages(found.filter(pk__lte=newest)))
    name = f"record-{timezone.localdate():%Y-%m-%d}.{'csv' if is_csv else 'jsonl'}"
    answer = download(lines, name, "text/csv" if is_csv else "application/jsonl")
    if answer is None:
        messages.warning(request, _("Other files are being downloaded at this moment: try again in a minute."))
        return redirect("record")
    record(actor(), Act.DOWNLOADED, Thing("entry", None, name), note=request.GET.urlencode())
    return answer


def _rows(entries: "QuerySet[Entry]") -> Iterator[Row]:
    found = [*entries]
    known, labels = kinds(), dict(Environment.choices)
    there = _there(found)
    for entry in found:
        yield Row(
            entry,
            known.get(entry.kind, "") if entry.kind else "",
            there.get((entry.kind, entry.number), ""),
            [*filter(None, [*_source(entry), *(str(labels.get(name, name)) for name in entry.in_environments)])],
            translation.gettext(entry.note)
            if entry.note
            else "",  # those that say the same each time are in the catalogue
            [*_changes(entry)],
        )


def _source(entry: Entry) -> list[str]:
    """From where somebody acted, in words."""
    login = entry.login if entry.user_name else ""
    return [entry.get_origin_display(), login, entry.address, entry.token, entry.where]


def _changes(entry: Entry) -> Iterator[Change]:
    for name in dict.fromkeys([*entry.before, *entry.after]):
        label = label_of(entry.kind, name)
        yield Change(label, in_words(entry.before.get(name)), in_words(entry.after.get(name)))


#: The pages of things, by their kind.
_PAGES = {"project": "project", "server": "server", "servergroup": "group", "deployment": "deployment"}


def _there(entries: list[Entry]) -> dict[tuple[str, int | None], str]:
    """The page of each thing that is still there."""
    wanted: dict[str, set[int]] = {}
    for entry in entries:
        if entry.kind in _PAGES and entry.number is not None:
            wanted.setdefault(entry.kind, set()).add(entry.number)
    return {
        (kind, pk): reverse(_PAGES[kind], args=[pk])
        for kind, numbers in wanted.items()
        for pk in model_of(kind)._base_manager.filter(pk__in=numbers).values_list("pk", flat=True)
    }
