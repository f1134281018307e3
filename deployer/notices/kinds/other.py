"""Any address that apprise knows, for what has no kind of its own. Only administrators give one.

The library is loaded where something is sent to such an address, and nowhere else: it takes a second, and 45 MB.
"""

import logging
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer.models import ChannelKind
from deployer.notices.guard import RefusedAddressError, guarded
from deployer.notices.kinds.kind import Address, Answer, Field, Kind, Net, Outcome, Parcel

#: Seconds for one message.
LONGEST = 30.0


def _check(value: str) -> None:
    if "://" not in value:
        raise ValidationError(_("Give an address as apprise has it: ntfy://TOPIC, discord://…"))


class Other(Kind):
    kind = ChannelKind.OTHER
    fields = (Field("url", gettext_lazy("Address"), placeholder="ntfy://topic", is_secret=True, check=_check),)
    help = gettext_lazy("An address as the documentation of apprise has it. Only administrators give one.")

    def send(self, address: Address, parcel: Parcel, net: Net) -> Answer:
        import apprise

        logging.getLogger("apprise").setLevel(logging.CRITICAL)  # its lines name addresses, and what they hold
        asset = apprise.AppriseAsset(app_id="deployer", http_redirects=False, service_timeout=LONGEST, plugin_paths=[])
        found: Any = apprise.Apprise.instantiate(address["url"], asset=asset, suppress_exceptions=True)
        if not found:
            return Answer(Outcome.REFUSED, _("apprise cannot read the address."))
        kind = apprise.NotifyType.FAILURE if parcel.message.is_bad else apprise.NotifyType.INFO
        sender = apprise.Apprise(asset=asset)
        sender.add(found)
        with guarded() as watch:
            result: Any = sender.notify(
                parcel.message.text or " ",
                parcel.message.subject,
                notify_type=kind,
                body_format=apprise.NotifyFormat.TEXT,
            )
        if result:
            return Answer(Outcome.SENT, _("%s has taken it.") % found.service_name)
        if watch.refused:
            raise RefusedAddressError(watch.refused)
        if result.status == apprise.AppriseResultStatus.TIMEOUT:
            return Answer(Outcome.UNKNOWN, _("no answer in time"))
        return Answer(Outcome.LATER, _("%s has not taken it; apprise does not say why.") % found.service_name)
