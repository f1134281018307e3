"""What all operations of the JSON API share: who may ask, how it refuses, pages of lists, and requests done once."""

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Annotated, Any, TypeVar

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from ninja import Field, NinjaAPI, Router, Schema
from ninja.decorators import decorate_view
from ninja.errors import AuthenticationError, HttpError, ValidationError
from ninja.openapi.schema import OpenAPISchema
from ninja.pagination import LimitOffsetPagination
from ninja.utils import contribute_operation_callback
from pydantic import ConfigDict

from deployer import __version__
from deployer.api.once import HEADER, LONGEST_KEY, PATTERN, once
from deployer.api.refused import ErrorShape, RefusedError
from deployer.api.shapes import WithoutNul
from deployer.api.tokens import bearer
from pages.problems import CONTENT_TYPE, problem
from people import refusals
from people.rights import NotAllowedError
from projects.models import ArchivedError
from projects.validators import validate_ref_length
from servers.fields import DecryptionError

Kept = TypeVar("Kept", bound=Model)
#: An id as the databases can hold it.
Id = Annotated[int, Field(ge=1, le=2**63 - 1)]
#: The name of a project in an address, and why something is done with one.
Name = Annotated[str, Field(max_length=100), WithoutNul]
Reason = Annotated[str, Field(max_length=500), WithoutNul]


def _open_to_members_and_tokens(view: Callable[..., Any]) -> Callable[..., Any]:
    """The description of the API: for people who are logged in, and for whoever has a token."""

    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        try:
            if request.user.is_authenticated or bearer(request):
                return view(request, *args, **kwargs)
        except RefusedError as error:
            return error.answer()
        match = request.resolver_match
        is_page = match is not None and match.url_name == "openapi-view" and "Authorization" not in request.headers
        return redirect_to_login(request.get_full_path()) if is_page else _http_error(request, AuthenticationError())

    return checked


class Described(NinjaAPI):
    """An API whose description tells of what holds for all of its operations, too."""

    def get_openapi_schema(self, *args: Any, **options: Any) -> OpenAPISchema:
        document = super().get_openapi_schema(*args, **options)
        for operations in document["paths"].values():
            for method, operation in operations.items():
                for status, answer in operation["responses"].items():
                    if int(status) >= 400 and "content" in answer:
                        answer["content"] = {CONTENT_TYPE: answer["content"].pop("application/json")}
                if method == "post":
                    operation["parameters"].append(_KEY)
        return document


#: How the description has the header of an idempotency key.
_KEY = {
    "in": "header",
    "name": HEADER,
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY, "pattern": PATTERN},
    "description": "The same request with the same key is done once, and answered with its first answer for a day.",
}


class StrictRouter(Router):
    """A router whose endpoints refuse names in the address that they do not know: a misspelt filter filters nothing."""

    def add_api_operation(self, path: str, methods: list[str], view_func: Callable[..., Any], **options: Any) -> None:
        view = _with_known_names(view_func)
        super().add_api_operation(path, methods, decorate_view(once)(view) if "POST" in methods else view, **options)


def _with_known_names(view: Callable[..., Any]) -> Callable[..., Any]:
    names: set[str] = set()

    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        for name in request.GET:
            if name not in names:
                words = {"name": name, "names": ", ".join(sorted(names)) or _("none")}
                raise RefusedError(
                    422, _("There is no parameter “%(name)s” here. Known ones: %(names)s.") % words, field=name
                )
        return view(request, *args, **kwargs)

    def learn(operation: Any) -> None:
        for model in operation.models:
            if model.__ninja_param_source__ == "query":
                names.update(model.__ninja_flatten_map__)

    contribute_operation_callback(checked, learn)
    return checked


api = Described(
    title="deployer",
    version=__version__,
    description=_(
        "Check and launch deployments, follow, continue, cancel, retry and roll them back. "
        "Tokens are made on the page of your account. An error is a problem of RFC 9457, with the fields `field` and "
        "`blocking`. Headers of each answer say how often you may ask, and after a 429 when again."
    ),
    auth=bearer,
    docs_decorator=_open_to_members_and_tokens,
    default_router=StrictRouter(),
    urls_namespace="api",
)


class Pages(LimitOffsetPagination):
    """``limit`` and ``offset``; answered as ``{"items": [...], "count": all there are, "next_offset": 50 or null}``."""

    class Input(Schema):
        limit: int = Field(50, ge=1, le=500)
        offset: int = Field(0, ge=0, le=2**31)

    class Output(Schema):
        items: list[Any]
        count: int
        next_offset: int | None

    def paginate_queryset(self, queryset: Any, pagination: Any, request: HttpRequest, **params: Any) -> Any:
        first, count = pagination.offset, queryset.count()
        items = self.taken(queryset[first : first + pagination.limit])
        end = first + len(items)
        return {"items": items, "count": count, "next_offset": end if items and end < count else None}

    def taken(self, rows: Any) -> list[Any]:
        """Of the rows that were asked for, those that one answer holds."""
        return list(rows)


class Input(Schema):
    """What a request brings. ``idempotency_key``: with the same one, the same request is done once."""

    model_config = ConfigDict(extra="forbid")

    idempotency_key: Annotated[str, Field(min_length=1, max_length=LONGEST_KEY, pattern=PATTERN)] | None = None


@api.exception_handler(RefusedError)
def _refused(_request: HttpRequest, error: RefusedError) -> HttpResponse:
    return error.answer()


@api.exception_handler(ValidationError)
def _does_not_fit(_request: HttpRequest, error: ValidationError) -> HttpResponse:
    places = [".".join(str(part) for part in each["loc"] if part not in _SOURCES) for each in error.errors]
    sentences = [_sentence_about(place, each) for place, each in zip(places, error.errors, strict=True)]
    return problem(422, " ".join(sentences), field=places[0].partition(".")[0])


def _sentence_about(place: str, error: dict[str, Any]) -> str:
    """What is wrong with one value of a request."""
    if place == "branch" and error["type"] == "string_too_long":
        try:
            validate_ref_length(str(error.get("input", "")))
        except DjangoValidationError as too_long:
            return " ".join(too_long.messages)
    return f"{place}: {error['msg']}."


@api.exception_handler(DecryptionError)
def _unreadable(_request: HttpRequest, error: DecryptionError) -> HttpResponse:
    return problem(409, str(error))


@api.exception_handler(NotAllowedError)
def _not_allowed(_request: HttpRequest, error: NotAllowedError) -> HttpResponse:
    return problem(403, error.sentence)


@api.exception_handler(ArchivedError)
def _archived(_request: HttpRequest, error: ArchivedError) -> HttpResponse:
    return problem(409, str(error), field="project_id")


@api.exception_handler(refusals.RefusedError)
def _not_done(_request: HttpRequest, error: refusals.RefusedError) -> HttpResponse:
    return problem(409, str(error))


@api.exception_handler(HttpError)
def _http_error(_request: HttpRequest, error: HttpError) -> HttpResponse:
    detail = str(error)
    if isinstance(error, AuthenticationError):
        detail = _("A valid token is needed: “Authorization: Bearer TOKEN”. Make one on the page of your account.")
    response = problem(error.status_code, detail)
    if error.status_code == 401:
        response["WWW-Authenticate"] = "Bearer"
    return response


#: What the framework puts before an input's own name when it says where a mistake is.
_SOURCES = {"body", "query", "path", "asked", "filters"}
#: The errors of endpoints that only tell; that tell of one thing; that do something; and that read a body for it.
TELLS = {401: ErrorShape, 422: ErrorShape, 429: ErrorShape}
TELLS_OF_ONE = {**TELLS, 404: ErrorShape}
ACTS = {**TELLS_OF_ONE, 403: ErrorShape, 409: ErrorShape}
READS = {400: ErrorShape, **ACTS}
ASKED = {**TELLS_OF_ONE, 409: ErrorShape}


def row_of(rows: "QuerySet[Kept]", pk: int, field: str) -> Kept:
    """The row with that id; or a refusal."""
    return rows_of(rows, [pk], field)[0]


def row_named(rows: "QuerySet[Kept]", name: str, field: str) -> Kept:
    found = rows.filter(name=name).first()
    if found is None:
        kind = rows.model._meta.verbose_name
        raise RefusedError(404, _("There is no %(kind)s “%(name)s”.") % {"kind": kind, "name": name}, field=field)
    return found


def rows_of(rows: "QuerySet[Kept]", ids: Iterable[int], field: str) -> list[Kept]:
    """The rows with ``ids``, each once, in that order; or a refusal that names the unknown ids."""
    wanted = list(dict.fromkeys(ids))
    found = rows.in_bulk(wanted)
    if unknown := [pk for pk in wanted if pk not in found]:
        raise not_found(rows.model, unknown, field)
    return [found[pk] for pk in wanted]


def not_found(model: type[Model], ids: Iterable[int], field: str) -> RefusedError:
    sentence = _("There is no %(kind)s with the id %(ids)s.") % {
        "kind": model._meta.verbose_name,
        "ids": ", ".join(map(str, ids)),
    }
    return RefusedError(404, sentence, field=field)
