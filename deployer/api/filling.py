"""Fill in the forms of pages for a program: their validators and rights decide here as they do there.

A form is drawn as its page would show it, and sent back with what the request names.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.db import models, transaction
from django.forms import BaseForm, ModelMultipleChoiceField, MultipleChoiceField
from django.forms.utils import ErrorDict
from django.utils.translation import gettext as _

from deployer.api.refused import RefusedError
from pages.forms import NamedField
from people.record import stored
from people.recorded_forms import ComparedForm, RecordedRows

Draw = Callable[[Mapping[str, Any] | None], Any]


def filled(draw: Draw, values: Mapping[str, Any], outside: Mapping[str, str]) -> Any:
    """The form that ``draw`` makes, bound to ``values`` by the names of its boxes.

    ``outside`` says what the API calls a box, where that differs.
    """
    drawn = draw(None)
    _insist_on_boxes(drawn, values, outside)
    shown = {name: _value(drawn, name) for name in drawn.fields}
    return draw({**shown, **{name: _sent(drawn, name, value) for name, value in values.items()}})


def keep(draw: Draw, values: Mapping[str, Any], outside: Mapping[str, str]) -> Any:
    """Save the row of a form. Raises `RefusedError` with what is wrong."""
    with transaction.atomic():
        form: ComparedForm[Any] = filled(draw, values, outside)
        if not form.keep():
            raise refusal_of(form.errors, outside)
        return form.instance


def keep_row(
    draw: Draw,
    whole: models.Model,
    pk: int | None,
    values: Mapping[str, Any] | None,
    outside: Mapping[str, str],
) -> Any:
    """Save one of the rows that belong to ``whole``, a new one where ``pk`` is None; without ``values`` delete it.

    All rows are sent, as their page does: what they may not be together is seen. Raises `RefusedError`.
    """
    with transaction.atomic():
        stored(whole)  # nobody else changes its rows meanwhile
        drawn = draw(None)
        data = _as_shown(drawn)
        forms = [*drawn.initial_forms]
        if pk is None:
            forms.append(drawn.extra_forms[0])
            data |= _boxes(forms[-1]) | {f"{drawn.prefix}-TOTAL_FORMS": len(forms)}
            place = len(forms) - 1
        else:
            place = next((at for at, form in enumerate(forms) if form.instance.pk == pk), -1)
        if place < 0:
            raise RefusedError(404, _("It was deleted meanwhile."), field="id")
        prefix = f"{drawn.prefix}-{place}"
        if values is None:
            data[f"{prefix}-DELETE"] = "on"
        else:
            _insist_on_boxes(forms[place], values, outside)
            data |= {f"{prefix}-{name}": _sent(forms[place], name, value) for name, value in values.items()}
        rows: RecordedRows[Any, Any] = draw(data)
        if not rows.keep():
            raise _refusal_of_rows(rows, place, outside)
        if values is None:
            return None
        return rows.new_objects[0] if pk is None else rows.forms[place].instance


def rows_as_sent(drawn: Any, wanted: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the page of ``drawn`` rows sends where they are to be ``wanted``, each by the names of its boxes.

    The first stored row becomes the first of those, and so on; those that are too many are deleted.
    """
    data = _as_shown(drawn)
    stored_rows = len(drawn.initial_forms)
    for number, values in enumerate(wanted):
        if number >= stored_rows:
            data |= {f"{drawn.prefix}-{number}-{name}": "" for name in drawn.empty_form.fields}
        data |= {f"{drawn.prefix}-{number}-{name}": value for name, value in values.items()}
    for number in range(len(wanted), stored_rows):
        data[f"{drawn.prefix}-{number}-DELETE"] = "on"
    return data | {f"{drawn.prefix}-TOTAL_FORMS": max(stored_rows, len(wanted))}


def refusal_of(errors: ErrorDict, outside: Mapping[str, str]) -> RefusedError:
    """What is wrong with a form, in a sentence for each box, by the first one's name."""
    named = {name: " ".join(map(str, messages)) for name, messages in errors.items()}
    fields = ["" if name == "__all__" else outside.get(name, name) for name in named]
    sentences = [*named.values()]
    if len(sentences) > 1:
        sentences = [f"{field}: {said}" if field else said for field, said in zip(fields, sentences, strict=True)]
    return RefusedError(422, " ".join(sentences), field=next(iter(fields), ""))


def _refusal_of_rows(rows: Any, place: int, outside: Mapping[str, str]) -> RefusedError:
    if place < len(rows.forms) and rows.forms[place].errors:
        return refusal_of(rows.forms[place].errors, outside)
    others = [" ".join(map(str, messages)) for form in rows.forms for messages in form.errors.values()]
    return RefusedError(422, " ".join([*map(str, rows.non_form_errors()), *others]))


def _insist_on_boxes(form: BaseForm, values: Mapping[str, Any], outside: Mapping[str, str]) -> None:
    for name in values:
        if name not in form.fields:
            raise RefusedError(422, _("This cannot be set here."), field=outside.get(name, name))


def _sent(form: BaseForm, name: str, value: Any) -> Any:
    """A value as its box sends it: a row by its id, also where a page asks for its name."""
    field: Any = form.fields[name]
    if isinstance(field, NamedField) and field.is_typed and value is not None:
        rows: Any = field.queryset
        return rows.model._base_manager.filter(pk=value).first() or -1
    return value


def _as_shown(rows: Any) -> dict[str, Any]:
    forms = [*rows.initial_forms]
    counts = {"TOTAL_FORMS": len(forms), "INITIAL_FORMS": len(forms), "MIN_NUM_FORMS": 0, "MAX_NUM_FORMS": 1000}
    data: dict[str, Any] = {f"{rows.prefix}-{name}": count for name, count in counts.items()}
    for form in forms:
        data |= _boxes(form)
    return data


def _boxes(form: BaseForm) -> dict[str, Any]:
    return {form.add_prefix(name): _value(form, name) for name in form.fields}


def _value(form: BaseForm, name: str) -> Any:
    """What a box shows; one for several values is never without a list."""
    is_list = isinstance(form.fields[name], MultipleChoiceField | ModelMultipleChoiceField)
    found = form[name].value()
    return [] if is_list and found is None else found
