"""`deployer forget_second_factor USER`: the way back in for the last admin, whose phone is lost."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from people.factors import forget
from people.models import User


class Command(BaseCommand):
    help = gettext_lazy("Remove every second factor of a user who has lost it, and end their sessions.")  # type: ignore[assignment]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username", metavar="USER", help=_("the user's name"))

    def handle(self, *_args: Any, username: str, **_options: Any) -> None:
        user = User.objects.filter(username=username).first()
        if user is None:
            raise CommandError(_("There is no user %s.") % username)
        count = forget(user)
        self.stdout.write(
            ngettext("%d factor of this user is removed.", "%d factors of this user are removed.", count) % count
        )
