"""Mail, by the server that the settings name."""

import re
import smtplib
from email.utils import parseaddr

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import EmailMessage, get_connection
from django.core.validators import validate_email
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer.models import ChannelKind
from deployer.notices.kinds.kind import Address, Answer, Field, Kind, Net, Outcome, Parcel
from people.visible import visible

#: Addresses of one channel.
MOST = 20


def recipients(value: str) -> list[str]:
    """The addresses of a field."""
    return [word for word in re.split(r"[,;\s]+", value) if word]


def _check(value: str) -> None:
    found = recipients(value)
    if not 1 <= len(found) <= MOST:
        raise ValidationError(_("Give 1 to %d addresses.") % MOST)
    for address in found:
        validate_email(address)


class Mail(Kind):
    kind = ChannelKind.MAIL
    fields = (Field("to", gettext_lazy("To"), gettext_lazy("Separated by commas."), "ops@example.com", check=_check),)
    help = gettext_lazy("Sent by the server that DEPLOYER_EMAIL_URL names.")

    def send(self, address: Address, parcel: Parcel, net: Net) -> Answer:
        return send_mail(recipients(address["to"]), parcel)


def send_mail(to: list[str], parcel: Parcel) -> Answer:
    """One mail to all of ``to``. Its Message-ID stays the same when it is sent once more."""
    if not settings.DEPLOYER_EMAIL_FROM:
        return Answer(Outcome.REFUSED, _("No mail server is set: DEPLOYER_EMAIL_URL and DEPLOYER_EMAIL_FROM."))
    message = parcel.message
    domain = parseaddr(settings.DEPLOYER_EMAIL_FROM)[1].rpartition("@")[2] or "deployer"
    headers = {
        "Message-ID": f"<{message.number}@{domain}>",
        "Auto-Submitted": "auto-generated",
        "X-Deployer-Event": message.event.value,
    }
    mail = EmailMessage(
        visible(message.subject, 200), message.text + "\n", settings.DEPLOYER_EMAIL_FROM, to, headers=headers
    )
    server = get_connection()
    try:
        server.open()
    except smtplib.SMTPAuthenticationError as error:
        return Answer(Outcome.LATER, _said(error))
    except (smtplib.SMTPException, OSError) as error:
        return Answer(Outcome.LATER, _said(error))
    try:
        server.send_messages([mail])
    except smtplib.SMTPRecipientsRefused as error:
        codes = [code for code, _text in error.recipients.values()]
        said = "; ".join(f"{code} {_text(text)}" for code, text in error.recipients.values())
        return Answer(Outcome.LATER if any(code < 500 for code in codes) else Outcome.REFUSED, said)
    except smtplib.SMTPResponseException as error:
        return Answer(Outcome.REFUSED if error.smtp_code >= 500 else Outcome.LATER, _said(error))
    except (smtplib.SMTPException, OSError) as error:
        return Answer(Outcome.UNKNOWN, _said(error))
    finally:
        server.close()
    return Answer(Outcome.SENT, _("The mail server has taken it."))


def _said(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        return f"{error.smtp_code} {_text(error.smtp_error)}"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text or type(error).__name__


def _text(said: bytes | str) -> str:
    return visible(said.decode(errors="replace") if isinstance(said, bytes) else said, 300)
