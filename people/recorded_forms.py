"""Forms of stored rows: they record what they save, and refuse to overwrite what others have changed meanwhile.

A page draws a form with its `as_shown` inside, shows its `meanwhile` if it was refused, and saves it by `keep`::

    form = ProjectForm(request.POST or None, instance=project)
    if form.keep():
        return redirect(...)

Every field that a form writes counts, also those that its user left alone: they would be written back. What the machine
writes is in no form, or `kept_if_untouched`. A form that was refused comes back as it was filled in, with a new token:
sent once more, it overwrites knowingly. A form without a token was not drawn by a page of ours (a script, or a page of
before the upgrade), and is saved as it is: nobody is kept out by this, only warned.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, TypeVar

from django import forms
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connections, models, transaction
from django.forms import BaseInlineFormSet
from django.forms.formsets import INITIAL_FORM_COUNT, TOTAL_FORM_COUNT
from django.http import Http404, QueryDict
from django.utils.safestring import SafeString
from django.utils.text import capfirst

from pages.forms import WriteOnlyMixin
from people.meanwhile import BOX, Change, Digests, Meanwhile, Token, box, changes_of, digest, digests, gone, key_of
from people.meanwhile import unseen as unseen_in
from people.record import delete, saving, stored
from people.snapshots import Snapshot, plain, state

M = TypeVar("M", bound=models.Model)
Whole = TypeVar("Whole", bound=models.Model)


class ComparedForm(forms.ModelForm[M]):
    """A form of one row, compared with the row as it is stored by then, and written into the columns of its boxes."""

    #: Fields of the row that are written from boxes of other names.
    writes_too: ClassVar[tuple[str, ...]] = ()
    #: Fields that connections, sign-ins and the like add to: where the user left them alone, they stay as they are.
    kept_if_untouched: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        former = kwargs.get("instance")
        is_drawn = not (args and args[0]) and not kwargs.get("data")
        #: Read before the boxes are filled: what they show is never older.
        self._drawn: Snapshot = state(former) if is_drawn and former is not None and former.pk is not None else {}
        super().__init__(*args, **kwargs)
        self.meanwhile: Meanwhile | None = None
        self._left: set[str] = set()
        self._new_token = ""

    @property
    def as_shown(self) -> SafeString | str:
        """The hidden box that says what the form was drawn from."""
        if self.instance.pk is None:
            return ""
        name = self.add_prefix(BOX)
        sent = getattr(self, "asked", None) or self.data
        if self._new_token or name in sent:
            return box(name, self._new_token or sent[name])
        if self.is_bound:
            return ""
        values = {name: value for name, value in self._drawn.items() if self._writes(name)}
        return box(name, str(Token(key_of(self.instance), digests(self.instance, values), {})))

    def full_clean(self) -> None:
        super().full_clean()
        if self.is_bound and self.instance.pk is not None and not self.errors:
            self._compare()

    def is_valid(self) -> bool:
        return super().is_valid() and self.meanwhile is None

    def keep(self, *then: Callable[[M], Any]) -> bool:
        """Save it, and do ``then`` with the row, in one transaction; gives whether it was right, and no older."""
        if not self.is_bound:
            return False
        try:
            return self._kept(then)
        except IntegrityError:  # somebody else has made such a row since it was looked at: now that is seen
            if self.instance.pk is not None:
                raise
        self.full_clean()
        return self._kept(then)

    def _kept(self, then: Iterable[Callable[[M], Any]]) -> bool:
        with transaction.atomic():
            if not self.is_valid():
                return False
            row = self.save()
            for act in then:
                act(row)
        return True

    def save(self, commit: bool = True) -> M:
        """Write a stored row's columns that are boxes of the form: others may be written by somebody else just now."""
        if not commit or self.errors or self.instance._state.adding:
            return super().save(commit)
        self.instance.save(update_fields=self.columns())
        self._save_m2m()  # type: ignore[attr-defined]  # a part of Django's `save` that its types lack
        return self.instance

    def columns(self) -> list[str]:
        """The columns of the row that the form writes, and those that say when it was changed."""
        return [
            field.name
            for field in self.instance._meta.concrete_fields
            if getattr(field, "auto_now", False) or (self._writes(field.name) and field.name not in self._left)
        ]

    def _writes(self, name: str) -> bool:
        return name in self.writes_too or (name in self.fields and not self.fields[name].disabled)

    def _compare(self) -> None:
        """Find what others have changed since the form was drawn. The row is kept from other writers from here on."""
        row = stored(self.instance)
        if row is None:
            raise Http404
        sent = self.data.get(self.add_prefix(BOX))
        if not sent:
            return
        token = Token.read(sent)
        now = state(row)
        wanted = {name: self._wanted(name) for name in now if self._writes(name)}
        names = list(wanted)
        if token is not None and token.is_of(row):
            names = unseen_in(token.fields, row, now, wanted)
            for name in self.kept_if_untouched.intersection(names):
                if digest(row, name, wanted[name]) == token.fields[name]:
                    self._leave(row, name)
            names = [name for name in names if name not in self._left]
            labels = {name: str(field.label) for name, field in self.fields.items() if field.label}
            changes = tuple(changes_of(row, names, token.fields, labels))
            self.meanwhile = Meanwhile(changes, _forgets(self)) if changes else None
        else:
            self.meanwhile = Meanwhile(forgets=_forgets(self))
        if self.meanwhile is not None:
            fields = digests(row, {name: now[name] for name in wanted})
            fields |= {name: token.fields[name] for name in self._left if token is not None}
            self._new_token = str(Token(key_of(row), fields, {}))

    def _wanted(self, name: str) -> Any:
        """What the form would write, as `state` has it."""
        if self.instance._meta.get_field(name).many_to_many:
            return sorted(row.pk for row in self.cleaned_data[name])
        return plain(self.instance, name)

    def _leave(self, row: models.Model, name: str) -> None:
        """Have a field stay as it is stored."""
        self._left.add(name)
        if row._meta.get_field(name).many_to_many:
            self.cleaned_data[name] = getattr(row, name).all()
        else:
            setattr(self.instance, name, getattr(row, name))


class RecordedForm(ComparedForm[M]):
    """The same, with an entry in the record."""

    def save(self, commit: bool = True) -> M:
        """Save the row, with its entry in the same transaction."""
        if not commit:
            return super().save(commit)
        with saving(self.instance):
            return super().save(commit)


class RecordedRows(BaseInlineFormSet[M, Whole, forms.ModelForm[M]]):
    """Rows of another row, compared in the same way: each that is new, changed or deleted has an entry of its own.

    Where somebody else has deleted one of them, what was typed into it becomes a new row.
    """

    model: type[M]

    def __init__(self, data: Any = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(data, *args, **kwargs)
        self.meanwhile: Meanwhile | None = None
        self._new_token = ""
        sent = self.data.get(self._box) if self.is_bound else None
        self._token = Token.read(sent) if sent else None
        self._is_strange = bool(sent) and (self._token is None or not self._token.is_of(self.instance))
        self._gone = [*self._take_out_gone()] if self._token and not self._is_strange else []

    @property
    def _box(self) -> str:
        return f"{self.prefix}-{BOX}"

    @property
    def as_shown(self) -> SafeString | str:
        """The hidden box that says what the rows were drawn from."""
        if self.instance.pk is None:
            return ""
        if self._new_token or self._box in self.data:
            return box(self._box, self._new_token or self.data[self._box])
        return "" if self.is_bound else box(self._box, self._drawn(row.instance for row in self.initial_forms))

    def is_valid(self) -> bool:
        return super().is_valid() and self.meanwhile is None

    def full_clean(self) -> None:
        super().full_clean()
        if self.is_bound and (self._token or self._is_strange):
            self._compare()

    def keep(self) -> bool:
        """Save the rows, in one transaction; gives whether they were right, and no older."""
        if not self.is_bound:
            return False
        try:
            with transaction.atomic():
                if not self.is_valid():
                    return False
                self.save()
        except IntegrityError:
            if not self._say_what_is_taken():
                raise
            return False
        return True

    def _say_what_is_taken(self) -> bool:
        """Say of rows that somebody else has made such ones since these were drawn; gives whether there are any."""
        is_any = False
        for form in self.forms:
            if not form.has_changed() or self._is_deleted(form):
                continue
            if form in self.extra_forms:
                form.instance.pk, form.instance._state.adding = None, True
            try:
                form.instance.validate_unique()
                form.instance.validate_constraints()
            except ValidationError as error:
                form.add_error(None, ValidationError(error.messages))
                is_any = True
        return is_any

    def save_new(self, form: Any, commit: bool = True) -> M:
        if not commit:
            return super().save_new(form, commit)
        with saving(form.instance):
            return super().save_new(form, commit)

    def save_existing(self, form: Any, obj: M, commit: bool = True) -> M:
        if not commit:
            return super().save_existing(form, obj, commit)
        with saving(obj):
            return super().save_existing(form, obj, commit)

    def delete_existing(self, obj: M, commit: bool = True) -> None:
        if commit:
            delete(obj)

    def _drawn(self, rows: Iterator[models.Model]) -> str:
        drawn = {str(row.pk): digests(row, {name: plain(row, name) for name in self._names}) for row in rows}
        return str(Token(key_of(self.instance), {}, drawn))

    @property
    def _names(self) -> list[str]:
        """The fields of a row that its form writes."""
        written = self.form.base_fields
        return [field.name for field in self.model._meta.concrete_fields if field.name in written]

    def _compare(self) -> None:
        if self._is_strange or self._token is None:
            self.meanwhile = Meanwhile(forgets=any(map(_forgets, self.forms)))
        else:
            changes = [*self._gone]
            if not any(form.errors for form in self.forms if not self._is_deleted(form)):
                changes += [each for form in self.initial_forms for each in self._changed(form, self._token.rows)]
            self.meanwhile = Meanwhile(tuple(changes), any(map(_forgets, self.forms))) if changes else None
        if self.meanwhile is not None:
            self._new_token = self._drawn(iter(self._stored().values()))

    def _changed(self, form: Any, shown: Mapping[str, Digests]) -> Iterator[Change]:
        row = self._stored().get(form.instance.pk)
        if row is None or str(row.pk) not in shown:
            return
        own = shown[str(row.pk)]
        now = state(row)
        is_deleted = self._is_deleted(form)
        wanted = {name: object() if is_deleted else plain(form.instance, name) for name in self._names}
        names = unseen_in(own, row, now, wanted)
        labels = {name: str(field.label) for name, field in form.fields.items() if field.label}
        yield from changes_of(row, names, own, labels, of=f"{capfirst(str(row._meta.verbose_name))} {row}")

    def _is_deleted(self, form: Any) -> bool:
        return bool(self.can_delete and self._should_delete_form(form))  # type: ignore[attr-defined]  # it is there

    def _stored(self) -> dict[Any, models.Model]:
        """The rows as they are now, kept from other writers."""
        rows: models.QuerySet[models.Model] = self.model._base_manager.filter(**{self.fk.name: self.instance})
        if connections[rows.db].features.has_select_for_update:
            rows = rows.select_for_update(of=("self",))
        return {row.pk: row for row in rows.order_by("pk")}

    def _take_out_gone(self) -> Iterator[Change]:
        """Let the rows that are not there any more be new ones, behind the others; yields what is said of each.

        One that was to be deleted is left out.
        """
        counts = [str(self.data.get(f"{self.prefix}-{name}", "")) for name in (INITIAL_FORM_COUNT, TOTAL_FORM_COUNT)]
        if self._token is None or not all(count.isdecimal() and int(count) <= self.absolute_max for count in counts):
            return
        first, total = map(int, counts)
        here = {str(row.pk) for row in self.get_queryset()}
        shown = {number: str(self.data.get(f"{self.prefix}-{number}-id", "")) for number in range(first)}
        lost = [number for number, pk in shown.items() if pk in self._token.rows and pk not in here]
        if not lost:
            return
        again = [number for number in lost if not self.data.get(f"{self.prefix}-{number}-DELETE")]
        order = [*(set(range(first)) - set(lost)), *again, *range(first, total)]
        for number in again:
            typed = self.data.get(f"{self.prefix}-{number}-{self._names[0]}", "")
            yield gone(self.model, int(shown[number]), typed)
        self.data = self._in_order(order, lost)
        self.data[f"{self.prefix}-{INITIAL_FORM_COUNT}"] = str(first - len(lost))
        self.data[f"{self.prefix}-{TOTAL_FORM_COUNT}"] = str(len(order))

    def _in_order(self, order: list[int], lost: list[int]) -> QueryDict:
        """What was sent, its rows in this order and those of them that are ``lost`` as new ones."""
        place = {number: str(index) for index, number in enumerate(order)}
        moved = QueryDict(mutable=True)
        row = re.compile(rf"{re.escape(str(self.prefix))}-(\d+)-(.+)")
        sent: Any = self.data
        for name, values in sent.lists():
            found = row.fullmatch(name)
            if found is None:
                moved.setlist(name, values)
            elif int(found[1]) in place and not (int(found[1]) in lost and found[2] in ("id", "DELETE")):
                moved.setlist(f"{self.prefix}-{place[int(found[1])]}-{found[2]}", values)
        return moved


def _forgets(form: forms.BaseForm) -> bool:
    """Whether something was typed into a box that does not show it again."""
    return any(isinstance(box.field.widget, WriteOnlyMixin) and box.data for box in form)
