"""The people who may do everything: one of them always stays."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from people.models import Grant, User
from people.refusals import RefusedError
from people.roles import Role


def admins() -> QuerySet[User]:
    """Everybody who may sign in and administer everything: superusers, and admins everywhere, also by a team."""
    everywhere = Grant.objects.filter(role=Role.ADMIN, environment="", project=None)
    by_team = User.teams.through.objects.filter(team__in=everywhere.exclude(team=None).values("team"))
    holds = Q(is_superuser=True) | Q(pk__in=everywhere.exclude(user=None).values("user"))
    return User.objects.filter(holds | Q(pk__in=by_team.values("user")), is_active=True, is_service=False)


@contextmanager
def keep_an_admin() -> Iterator[None]:
    """Do as one step what may take rights away. Raises `RefusedError`, and takes it back, where nobody would be left.

    Two people who do so at the same time wait for one another.
    """
    with transaction.atomic():
        had = bool([*admins().select_for_update().values_list("pk", flat=True)])
        yield
        if had and not admins().exists():
            raise RefusedError(_("Nobody else may administer everything: make somebody else an admin first."))
