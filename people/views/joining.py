"""The page behind a link by which somebody sets a password; it is open to whoever has the link."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from people import links
from people.forms import NewPasswordForm


@sensitive_post_parameters()
@require_http_methods(["GET", "HEAD", "POST"])
def join(request: HttpRequest, secret: str) -> HttpResponse:
    """Set the password, and go on to the login. A look at the page uses nothing up: mail servers look, too."""
    link = links.find(secret)
    if link is None:
        return render(request, "people/link_gone.html", status=404)
    form = NewPasswordForm(link.user, request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        if not links.use(link, form.cleaned_data["new_password1"]):
            return render(request, "people/link_gone.html", status=404)
        messages.success(request, _("Your password is set. Log in with it as %s.") % link.user.get_username())
        return redirect("login")
    return render(request, "people/join.html", {"form": form, "link": link})
