"""What the operator's commands share: refusals as one sentence, and the site's address."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, ProgrammingError
from django.utils.translation import gettext as _

from servers.fields import DecryptionError

#: Exit status of what was refused, the same as argparse's for bad usage.
REFUSED = 2


def refused(message: str) -> CommandError:
    """The end of a command that did nothing; ``message`` says why and what to do."""
    return CommandError(message, returncode=REFUSED)


class OperatorCommand(BaseCommand):
    """A command whose foreseeable troubles end as a sentence and exit status 2, never as a traceback."""

    def execute(self, *args: Any, **options: Any) -> str | None:
        try:
            return super().execute(*args, **options)
        except DecryptionError as error:
            raise refused(str(error)) from error
        except (OperationalError, ProgrammingError) as error:
            raise refused(
                _("The database cannot be used: %(why)s. If it is new, run “python manage.py migrate” first.")
                % {"why": str(error).strip().rstrip(".")}
            ) from error


def site_address(path: str) -> str:
    """``path`` on this site as it is reached from a browser, as far as the settings tell."""
    host, port = settings.DEPLOYER_BIND
    names = [name for name in settings.ALLOWED_HOSTS if not name.startswith(("*", "."))]
    if settings.DEPLOYER_HTTPS:
        return f"https://{names[0] if names else host}{path}"
    if host in {"0.0.0.0", "[::]", "::"}:  # noqa: S104 (compared, not bound)
        host = names[0] if names else "localhost"
    return f"http://{host}:{port}{path}"
