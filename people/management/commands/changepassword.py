"""`deployer changepassword`: Django's, which can also revoke the API tokens of the user."""

import getpass
from typing import Any

from django.contrib.auth.management.commands import changepassword
from django.core.management.base import CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from people.models import User
from people.record import Act, actor, changes, record, snapshot


class Command(changepassword.Command):
    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--revoke-tokens", action="store_true", help=_("revoke every API token of the user, too"))

    def handle(self, *args: Any, **options: Any) -> str | None:
        users = User.objects.using(options["database"]).filter(username=options["username"] or getpass.getuser())
        before = snapshot(users.first())
        said = super().handle(*args, **options)
        user = users.get()
        record(actor(), Act.CHANGED, user, *changes(before, snapshot(user)))
        if options["revoke_tokens"]:
            self.stdout.write(_("API tokens revoked: %d") % user.revoke_tokens())
        elif count := user.api_tokens.count():
            self.stdout.write(
                ngettext(
                    "%d API token of this user still works. To revoke it: --revoke-tokens.",
                    "%d API tokens of this user still work. To revoke them: --revoke-tokens.",
                    count,
                )
                % count
            )
        return said
