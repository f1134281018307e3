"""Bodies of requests: who may send how much, and where files go. Nothing of a body is read before that is known.

The web server asks `largest_body` by the head of a request, before it reads the body. `BodyGate` refuses what is
larger with a page, whatever the web server is: it stands before all that parses a form, as the CSRF check does.
"""

import io
import tempfile
from collections.abc import Callable
from typing import IO, Any, cast

from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.db import SessionStore
from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler, SkipFile
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import Resolver404, ResolverMatch, resolve
from django.utils.translation import gettext as _

from deployer.releases.contents import no_room
from deployer.releases.room import has_room
from deployer.triggers import intake
from pages.problems import problem
from people.models import ApiToken, User
from people.rights import Person, reach
from people.roles import Action
from projects.models import Project

#: Bytes that a stranger may send: enough for a login.
STRANGERS = 64 * 1024
#: What a package may have beside its contents: the form around it, and what packing adds at worst.
AROUND_PACKAGE = 10_000_000
#: The addresses that take files, and what somebody needs the right to: with the project of the address, else somewhere.
TAKE_FILES = {"releases": Action.OPERATE, "server_import": Action.EDIT, "api:list_releases": Action.OPERATE}
#: Those that take packages, as large as a release may be.
TAKE_PACKAGES = {"releases", "api:list_releases"}
#: The address that git servers send to: a signature says whether it is taken.
HOOK = "hook"


def largest_body(environ: dict[str, Any]) -> int:
    """The bytes that a request may bring, by its head alone."""
    request = WSGIRequest(environ)
    try:
        match = resolve(request.path_info)
    except Resolver404:
        return 0
    key = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    user: User | AnonymousUser = AnonymousUser()
    if key:
        request.session = SessionStore(key)
        user = get_user(request)
    return _largest(request, match, user)


def _largest(request: HttpRequest, match: ResolverMatch, user: User | AnonymousUser) -> int:
    if match.view_name == HOOK:
        return intake.largest_body(match.kwargs["secret"])
    if match.view_name.startswith("api:"):
        user = _user_of_token(request) or user
    if not user.is_authenticated:
        return STRANGERS
    if match.view_name in TAKE_PACKAGES and _may_take(user, match):
        return settings.DEPLOYER_RELEASE_MAX_MB * 1_000_000 + AROUND_PACKAGE
    return int(settings.DATA_UPLOAD_MAX_MEMORY_SIZE or 0)


def _user_of_token(request: HttpRequest) -> User | None:
    kind, _space, token = request.headers.get("Authorization", "").partition(" ")
    found = ApiToken.find(token) if kind.lower() == "bearer" else None
    return found.user if found else None


class BodyGate:
    """Refuses a body that is too large for who sends it, and the files of one that may bring none."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self._get_response(request)

    def process_view(self, request: HttpRequest, _view: Any, _args: Any, _kwargs: Any) -> HttpResponse | None:
        match = request.resolver_match
        length = _length(request)
        if match is None or not length:
            return None
        if match.view_name == HOOK:
            return None  # it counts who sends before it reads, and answers git servers in their form
        if length > STRANGERS:
            largest = _largest(request, match, request.user)
            if length > largest:
                return _refusal(request, match, largest)
        if match.view_name not in TAKE_FILES or not _may_bring_files(request, match):
            request.upload_handlers = [NoFiles(request)]
        return None


def _length(request: HttpRequest) -> int:
    given = request.META.get("CONTENT_LENGTH") or "0"
    return int(given) if given.isdecimal() else 0


def _may_take(user: Person, match: ResolverMatch) -> bool:
    """Whether an address takes files of ``user``."""
    action = TAKE_FILES[match.view_name]
    number = match.kwargs.get("pk") or match.kwargs.get("project_id")
    if number is None:
        return bool(reach(user, action))
    in_reach = Project.objects.reached_by(user, action)
    return str(number).isdecimal() and len(str(number)) < 19 and in_reach.filter(pk=number).exists()


def _may_bring_files(request: HttpRequest, match: ResolverMatch) -> bool:
    if match.view_name.startswith("api:"):
        return True  # it has no CSRF check: who calls is known before anything of the body is read
    return _may_take(request.user, match)


def _refusal(request: HttpRequest, match: ResolverMatch, largest: int) -> HttpResponse:
    if match.view_name.startswith("api:"):
        detail = _("The request is too large: at most %d KB are accepted here.") % (largest // 1024)
        return problem(413, detail)
    return render(request, "413.html", {"largest": largest // 1024}, status=413)


class NoFiles(FileUploadHandler):
    """Leaves out every file."""

    def new_file(self, *_args: Any, **_kwargs: Any) -> None:
        raise SkipFile

    def receive_data_chunk(self, raw_data: bytes, _start: int) -> bytes:
        return raw_data

    def file_complete(self, _file_size: int) -> None:
        return None


class _Unstored(io.RawIOBase):
    """Stands for a file that the disk had no room for: who reads it learns that. What else was sent is not lost."""

    def read(self, _size: int = -1, /) -> bytes:
        raise no_room()


class NamelessUploadHandler(FileUploadHandler):
    """Takes what is too large for memory. The kernel frees it once nobody has it open, killed processes too."""

    _is_refused = False
    _whole = 0

    def handle_raw_input(self, input_data: Any, META: Any, content_length: int, *rest: Any) -> None:  # noqa: N803
        self._whole = content_length

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        file = tempfile.TemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR)  # noqa: SIM115 (open as long as the request)
        self.file = UploadedFile(file, self.file_name, self.content_type, 0, self.charset, self.content_type_extra)
        self._is_refused = not has_room(self._whole)

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        if not self._is_refused:
            try:
                self.file.write(raw_data)
            except OSError:
                self._is_refused = True

    def file_complete(self, file_size: int) -> "UploadedFile[bytes]":
        if self._is_refused:
            self.file.close()
            self.file.file = cast(IO[bytes], _Unstored())
        else:
            self.file.seek(0)
        self.file.size = file_size
        return self.file

    def upload_interrupted(self) -> None:
        if hasattr(self, "file"):
            self.file.close()
