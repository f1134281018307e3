"""What the database's clock wrote is found again by what was read of it."""

import pytest
from django.db import connection
from django.utils import timezone

from people.models import User
from people.now import Now
from tests.factories import make_user

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("second", ["07", "07.1", "07.12", "07.123", "00.001", "59.999"])
def test_a_moment_of_any_length_is_neither_before_nor_after_itself(second: str) -> None:
    user = make_user()
    now = Now()
    if connection.vendor == "sqlite":
        now.clock = f"2026-11-27 08:00:{second}"
    User.objects.filter(pk=user.pk).update(last_login=now)
    read = User.objects.get(pk=user.pk).last_login
    assert read is not None
    same = User.objects.filter(pk=user.pk)
    assert same.filter(last_login=read, last_login__lte=read, last_login__gte=read).exists()
    assert not same.filter(last_login__lt=read).exists()
    assert not same.filter(last_login__gt=read).exists()


def test_it_is_the_moment_of_now() -> None:
    user = make_user()
    before = timezone.now()
    User.objects.filter(pk=user.pk).update(last_login=Now())
    read = User.objects.get(pk=user.pk).last_login
    assert read is not None
    assert abs((read - before).total_seconds()) < 60
    assert User.objects.filter(pk=user.pk, last_login__lte=Now()).exists()
