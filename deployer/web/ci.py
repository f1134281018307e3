"""The file by which CI jobs launch, as it lies beside this: for everybody, for there is nothing of ours in it."""

import hashlib
from functools import cache
from pathlib import Path

from django.http import HttpRequest, HttpResponse
from django.utils.http import content_disposition_header
from django.views.decorators.http import require_safe

NAME = "deployer-ci.py"


@cache
def _content() -> bytes:
    return Path(__file__).with_name(NAME).read_bytes()


@require_safe
def ci_file(_request: HttpRequest) -> HttpResponse:
    """The file itself."""
    disposition = content_disposition_header(as_attachment=True, filename=NAME)
    return HttpResponse(
        _content(), content_type="text/x-python; charset=utf-8", headers={"Content-Disposition": str(disposition)}
    )


@require_safe
def ci_digest(_request: HttpRequest) -> HttpResponse:
    """Its SHA-256, as ``sha256sum --check`` reads it."""
    line = f"{hashlib.sha256(_content()).hexdigest()}  {NAME}\n"
    return HttpResponse(line, content_type="text/plain; charset=utf-8")
