"""`deployer rotate_keys`: every secret under the newest encryption key, while the site runs."""

import sys
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from deployer.keyring import Census, census, drop_unused, forget, keys, places, refuse_missing_keys, rotate
from deployer.management.commandline import OperatorCommand, refused
from deployer.models import EncryptionKey

_NAMED = 50  # unreadable secrets that are listed


class Command(OperatorCommand):
    summary = gettext_lazy(
        "Encrypt every stored secret with the newest key, while the site runs; afterwards the older keys can go."
    )
    needs_keys = False

    def add_arguments(self, parser: CommandParser) -> None:
        group = parser.add_mutually_exclusive_group()
        group.add_argument(
            "--check", action="store_true", help=_("only say how many secrets are under which key; change nothing")
        )
        group.add_argument(
            "--forget",
            metavar="FINGERPRINT",
            help=_("go on without a key that is lost for good: its secrets must be entered again"),
        )

    def handle(self, *_args: Any, check: bool, forget: str | None, **_options: Any) -> None:
        if forget:
            self._forget(forget)
            return
        if not check:
            refuse_missing_keys()
            self._rotate()
        found = census()
        self._tell(found)
        if not check:
            self._let_go(found)
        if found.unreadable:
            sys.exit(1)

    def _rotate(self) -> None:
        if not settings.DEPLOYER_ENCRYPTION_KEYS:
            raise refused(_("There is no encryption key and no secret yet: “deployer migrate” makes the first key."))
        newest = next(iter(keys()))
        if not EncryptionKey.objects.filter(fingerprint=newest).exists():
            raise refused(
                _(
                    "Nothing of the site runs with the newest key (fingerprint %(key)s) yet: it could not read what is "
                    "encrypted with that. Start web and workers with the new key first and the older ones behind it, "
                    "and try again. If the site does not run, “deployer migrate” is enough."
                )
                % {"key": newest}
            )
        for place in places():
            done = 0
            for changed in rotate(place):
                done += changed
                if changed:
                    self._say(_("%(place)s: %(count)d encrypted again") % {"place": place, "count": done})

    def _tell(self, found: Census) -> None:
        for number, name in enumerate(keys()):
            count = found.under[name]
            which = _("newest key") if number == 0 else _("older key")
            self._say(
                ngettext("%(which)s %(key)s: %(count)d secret", "%(which)s %(key)s: %(count)d secrets", count)
                % {"which": which, "key": name, "count": count}
            )
        if not found.unreadable:
            return
        count = len(found.unreadable)
        self.stderr.write(
            ngettext(
                "%(count)d secret opens with none of the keys at hand: enter it again, or put its key back.",
                "%(count)d secrets open with none of the keys at hand: enter them again, or put their keys back.",
                count,
            )
            % {"count": count}
        )
        for place, pk in found.unreadable[:_NAMED]:
            self.stderr.write(f"  {place} {pk}")
        if count > _NAMED:
            self.stderr.write("  …")

    def _let_go(self, found: Census) -> None:
        unused = drop_unused(found)
        older = list(keys())[1:]
        if left := [name for name in older if name not in unused]:
            self._say(
                _("Secrets were written with an older key meanwhile (%(keys)s): keep it, and run this again.")
                % {"keys": ", ".join(left)}
            )
        if unused:
            self._say(
                _("No secret needs %(keys)s any more: take it out of DEPLOYER_ENCRYPTION_KEYS or %(file)s; restart.")
                % {"keys": ", ".join(unused), "file": settings.DEPLOYER_ENCRYPTION_KEY_FILE}
            )
        if not older:
            self._say(
                _(
                    "There is only one key. To change it, put a new one in front of it, with a comma between them, in "
                    "DEPLOYER_ENCRYPTION_KEYS or %(file)s; restart; and run this again."
                )
                % {"file": settings.DEPLOYER_ENCRYPTION_KEY_FILE}
            )

    def _forget(self, name: str) -> None:
        if not forget(name):
            raise refused(_("The database does not count on a key %(key)s that is missing here.") % {"key": name})
        self._say(
            _("Forgotten: %(key)s. Its secrets can no longer be read: pages say which, and they must be entered again.")
            % {"key": name}
        )

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()
