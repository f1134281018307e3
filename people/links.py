"""Links by which people set a password: made by admins, shown once, good once and for a week."""

import hashlib
import secrets
from datetime import timedelta

from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop, override

from people import sessions
from people.accounts import insist_on_edit, may_edit
from people.models import PasswordLink, User
from people.record import Act, actor, changes, record, snapshot
from people.refusals import RefusedError

LASTS = timedelta(days=7)


def make(maker: User, user: User) -> str:
    """The secret of a new link for ``user``; an older one is void from now on.

    Raises `RefusedError` for oneself, for a service account and for somebody who was deactivated.
    """
    insist_on_edit(maker, user)
    if user.is_service:
        raise RefusedError(_("A service account has no password."))
    if user.pk == maker.pk:
        raise RefusedError(_("Change your own password on the page of your account."))
    is_new = not user.is_active and (user.invitation is not None or not user.has_usable_password())
    if not user.is_active and not is_new:
        raise RefusedError(_("The account is deactivated: reactivate it first."))
    secret = secrets.token_urlsafe(32)
    values = {
        "purpose": PasswordLink.Purpose.INVITATION if is_new else PasswordLink.Purpose.RESET,
        "digest": _digest(secret),
        "made_by": maker,
        "expires_at": timezone.now() + LASTS,
    }
    with transaction.atomic():
        PasswordLink.objects.update_or_create(user=user, defaults=values)
        record(actor(), Act.CHANGED, user, note=gettext_noop("made a link by which a password is set"))
    return secret


def find(secret: str) -> PasswordLink | None:
    """The link of ``secret``, if it still holds: neither used nor expired, and its maker may still make it."""
    link = PasswordLink.objects.select_related("user", "made_by").filter(digest=_digest(secret)).first()
    if link is None or link.has_expired or link.user.is_service or not may_edit(link.made_by, link.user):
        return None
    return link if link.user.is_active or link.purpose == PasswordLink.Purpose.INVITATION else None


def use(link: PasswordLink, password: str) -> bool:
    """Set the password, and let somebody who was invited in; gives whether the link was still there to be used."""
    user = link.user
    user.set_password(password)  # takes a while: before the database's one writer is held
    with transaction.atomic():
        if not PasswordLink.objects.filter(pk=link.pk, digest=link.digest).delete()[0]:
            return False
        before = snapshot(User.objects.get(pk=user.pk))
        is_invited = link.purpose == PasswordLink.Purpose.INVITATION
        User.objects.filter(pk=user.pk).update(password=user.password, **({"is_active": True} if is_invited else {}))
        sessions.end_all(user)
        became = changes(before, snapshot(User.objects.get(pk=user.pk)))
        record(actor().by(user), Act.CHANGED, user, *became, gettext_noop("by a link for a password"))
    return True


def can_mail() -> bool:
    """Whether this site sends mail."""
    return bool(settings.DEPLOYER_EMAIL_FROM)


def mail(user: User, purpose: str, address: str, by: User) -> str:
    """Send the link to the user's address; gives why it could not be sent, or nothing."""
    context = {"person": user, "purpose": purpose, "address": address, "by": by, "days": LASTS.days}
    with override(user.language or settings.LANGUAGE_CODE):
        subject = _("Your access to deployer") if purpose == PasswordLink.Purpose.INVITATION else _("A new password")
        text = render_to_string("people/mail.txt", context)
    try:
        send_mail(subject, text, settings.DEPLOYER_EMAIL_FROM, [user.email])
    except OSError as error:  # what smtplib raises, too
        return str(error) or type(error).__name__
    return ""


def _digest(secret: str) -> str:
    """The stored form. A secret has 256 random bits, so a plain hash is enough."""
    return hashlib.sha256(secret.encode()).hexdigest()
