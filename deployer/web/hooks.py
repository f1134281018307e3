"""The address that git servers call: a delivery is taken by its signature, whoever sends it, and answered at once."""

from django.http import Http404, HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from deployer.triggers.intake import Sent, receive
from people.origin import client_address


@csrf_exempt
@require_POST
def hook(request: HttpRequest, secret: str) -> JsonResponse:
    """Take a delivery; the ``secret`` is the part of the address that nobody guesses, and is kept out of the record."""
    length = str(request.META.get("CONTENT_LENGTH") or "0")
    sent = Sent(
        headers=request.headers,
        address=client_address(request),
        length=int(length) if length.isdecimal() and len(length) < 19 else 0,
        body=request,
        content_type=request.headers.get("Content-Type", ""),
    )
    reply = receive(secret, sent)
    if reply is None:
        raise Http404
    return JsonResponse(reply.said, status=reply.status, headers={"Cache-Control": "no-store"})
