"""A kind of rows that is read and written by the same five operations: list, make, read, change, delete."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from inspect import Parameter, Signature
from typing import Annotated, Any

from django.db import IntegrityError
from django.db.models import ProtectedError, Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja import Field, Schema, Status
from ninja.params.functions import Query
from pydantic import create_model

from deployer.api.frame import ACTS, READS, TELLS, TELLS_OF_ONE, Id, api, row_of
from deployer.api.refused import RefusedError
from deployer.api.tokens import user_of
from people.models import User

Make = Callable[[User, dict[str, Any]], Any]
Edit = Callable[[User, Any, dict[str, Any]], Any]
Remove = Callable[[User, Any], None]


@dataclass(frozen=True)
class Filter:
    """What a list is asked for: by a lookup of the rows, or by what it makes of the value."""

    kind: Any
    by: str | Callable[[Any], Q]
    usual: Any = None

    def condition(self, value: Any) -> Q:
        """The condition for this value."""
        return Q((self.by, value)) if isinstance(self.by, str) else self.by(value)


@dataclass(frozen=True)
class Noun:
    """A kind of rows below ``/api/v1/path``.

    ``rows`` are those in a user's sight, ``told`` is what is told of one of them; ``make``, ``edit`` and ``remove``
    insist on the right themselves, and get the names and values that the request has brought.
    """

    path: str
    one: str
    tag: str
    about: str
    shape: type[Schema]
    rows: Callable[[User], "QuerySet[Any]"]
    told: Callable[[Any, User], Mapping[str, Any]]
    filters: Mapping[str, Filter] = field(default_factory=dict)
    new: type[Schema] | None = None
    make: Make | None = None
    change: type[Schema] | None = None
    edit: Edit | None = None
    remove: Remove | None = None
    about_remove: str = ""
    #: The shape of what is told in the answer to the request that made a row, and never again; and what that adds.
    made: type[Schema] | None = None
    told_once: Callable[[Any], Mapping[str, Any]] = field(default=lambda _row: {})

    @property
    def id(self) -> str:
        """What the number of one is called in its address."""
        return f"{self.one}_id".replace(" ", "_").replace("-", "_")

    @property
    def named(self) -> str:
        """Its name in those of operations."""
        return self.path.replace("-", "_")


#: Every kind that is there, by its path: a test walks them.
NOUNS: dict[str, Noun] = {}


def page_of(shape: type[Schema]) -> type[Schema]:
    """A page of a list."""
    about = "Some rows, how many there are in all, and where the next page begins."
    columns: dict[str, Any] = {"items": (list[shape], ...), "count": (int, ...), "next_offset": (int | None, ...)}  # type: ignore[valid-type]
    return create_model(f"Paged{shape.__name__}", __base__=Schema, __doc__=about, **columns)


def register(noun: Noun) -> None:
    """Open the addresses of a kind."""
    NOUNS[noun.path] = noun
    _open_list(noun)
    _open_one(noun)
    if noun.make is not None:
        _open_new(noun, noun.make)
    if noun.edit is not None:
        _open_change(noun, noun.edit)
    if noun.remove is not None:
        _open_removal(noun, noun.remove)


def _open_list(noun: Noun) -> None:
    limits = {
        "limit": (Annotated[int, Field(ge=1, le=500)], 50),
        "offset": (Annotated[int, Field(ge=0, le=2**31)], 0),
    }
    filters = {name: (it.kind | None if it.usual is None else it.kind, it.usual) for name, it in noun.filters.items()}
    columns: Any = {**filters, **limits}
    asked_by = create_model(f"{noun.named}_asked", __base__=Schema, **columns)

    def answer(request: HttpRequest, asked: Any) -> Any:
        given = asked.model_dump(exclude_none=True, exclude={"limit", "offset"})
        user = user_of(request)
        rows = noun.rows(user).filter(*(noun.filters[name].condition(value) for name, value in given.items()))
        count, first = rows.count(), asked.offset
        items = [noun.told(row, user) for row in rows[first : first + asked.limit]]
        end = first + len(items)
        return {"items": items, "count": count, "next_offset": end if items and end < count else None}

    response = {200: page_of(noun.shape), **TELLS}
    _open(noun, "get", answer, f"list_{noun.named}", response, noun.about, asked=Annotated[asked_by, Query()])


def _open_one(noun: Noun) -> None:
    def answer(request: HttpRequest, **given: Any) -> Any:
        user = user_of(request)
        return noun.told(_row(noun, user, given), user)

    response = {200: noun.shape, **TELLS_OF_ONE}
    _open(noun, "get", answer, f"read_{noun.named}", response, f"One {noun.one}.", of_one=True)


def _open_new(noun: Noun, make: Make) -> None:
    def answer(request: HttpRequest, asked: Any) -> Any:
        user = user_of(request)
        row = _written(lambda: make(user, _brought(asked)))
        return Status(201, {**_told_again(noun, user, row), **noun.told_once(row)})

    response = {201: noun.made or noun.shape, **READS}
    _open(noun, "post", answer, f"make_{noun.named}", response, f"Make a {noun.one}.", asked=noun.new)


def _open_change(noun: Noun, edit: Edit) -> None:
    def answer(request: HttpRequest, asked: Any, **given: Any) -> Any:
        user = user_of(request)
        row = _row(noun, user, given)
        return _told_again(noun, user, _written(lambda: edit(user, row, _brought(asked))))

    about = f"Change a {noun.one}. What is not named stays as it is."
    response = {200: noun.shape, **READS}
    _open(noun, "patch", answer, f"change_{noun.named}", response, about, of_one=True, asked=noun.change)


def _open_removal(noun: Noun, remove: Remove) -> None:
    def answer(request: HttpRequest, **given: Any) -> Any:
        user = user_of(request)
        row = _row(noun, user, given)
        _written(lambda: remove(user, row))
        return Status(204, None)

    about = noun.about_remove or f"Delete a {noun.one}."
    _open(noun, "delete", answer, f"delete_{noun.named}", {204: None, **ACTS}, about, of_one=True)


def open_act(
    noun: Noun,
    verb: str,
    act: Callable[[User, Any, dict[str, Any]], Any],
    about: str,
    *,
    asked: type[Schema] | None = None,
    tells: Noun | None = None,
    once: bool = False,
) -> None:
    """Open an address below that of a row, at which something is done with it.

    ``act`` insists on the right itself, gets what a request has ``asked``, and gives the row that is told of: the same
    one, with what is told ``once``; or a new one of the kind ``tells``.
    """

    def answer(request: HttpRequest, **given: Any) -> Any:
        user = user_of(request)
        body = given.pop("asked", None)
        row = _row(noun, user, given)
        done = _written(lambda: act(user, row, {} if body is None else _brought(body)))
        if tells is not None:
            return Status(201, _told_again(tells, user, done))
        return Status(200, {**_told_again(noun, user, done), **(noun.told_once(done) if once else {})})

    shape = (noun.made if once else None) or noun.shape
    response: dict[int, Any] = {200: shape} if tells is None else {201: tells.shape}
    errors = ACTS if asked is None else READS
    name = f"{verb.replace('-', '_')}_{noun.named}"
    _open(noun, "post", answer, name, {**response, **errors}, about, of_one=True, then=f"/{verb}", asked=asked)


def _open(
    noun: Noun,
    method: str,
    answer: Callable[..., Any],
    name: str,
    response: Any,
    about: str,
    *,
    of_one: bool = False,
    then: str = "",
    asked: Any = None,
) -> None:
    """Open an address, that of one row by its number, or one below it; ``asked`` is the type of what it takes."""
    takes = {"request": HttpRequest} | ({noun.id: Id} if of_one else {}) | ({} if asked is None else {"asked": asked})
    kind = Parameter.POSITIONAL_OR_KEYWORD
    answer.__signature__ = Signature([Parameter(each, kind, annotation=it) for each, it in takes.items()])  # type: ignore[attr-defined]
    path = f"/{noun.path}/{{{noun.id}}}{then}" if of_one else f"/{noun.path}"
    words: dict[str, Any] = {"summary": about.partition(".")[0], "description": about, "tags": [noun.tag]}
    getattr(api, method)(path, response=response, operation_id=name, **words)(answer)


def _row(noun: Noun, user: User, given: Mapping[str, Any]) -> Any:
    return row_of(noun.rows(user), given[noun.id], noun.id)


def _brought(asked: Any) -> dict[str, Any]:
    """What a request has named."""
    found: dict[str, Any] = asked.model_dump(exclude_unset=True, exclude={"idempotency_key"})
    return found


def _written(act: Callable[[], Any]) -> Any:
    try:
        return act()
    except ProtectedError as error:
        raise RefusedError(409, _("It is still in use, and was not deleted.")) from error
    except IntegrityError as error:
        raise RefusedError(409, _("Somebody else has changed this at the same moment: send it again.")) from error


def _told_again(noun: Noun, user: User, row: Any) -> Mapping[str, Any]:
    """What is told of a row that was just written, as it is stored. It may be out of sight by that."""
    return noun.told(noun.rows(user).filter(pk=row.pk).first() or row, user)
