"""Signing in with a password: by what tries are counted, and that nobody is kept out by others."""

from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from people import counting
from people.models import FailureCount
from tests.factories import make_member, make_user
from tests.marks import rarely

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse"


def tried(password: str, name: str = "ann", address: str = "192.0.2.1", client: Client | None = None) -> int:
    """The status of a try: 302 it was right, 200 it was wrong, 429 it was not looked at."""
    values = {"username": name, "password": password}
    answer = (client or Client()).post(reverse("login"), values, REMOTE_ADDR=address)
    return int(answer.status_code)


def pass_time(seconds: float) -> None:
    """Let all that was counted have happened so much earlier."""
    for row in FailureCount.objects.all():
        row.until -= timedelta(seconds=seconds)
        if isinstance(row.value, list):
            row.value = [at - seconds for at in row.value]
        row.save()


@pytest.mark.parametrize("addresses", [7, rarely(1), rarely(200)])
def test_one_wrong_password_a_minute_never_locks_anybody_out(addresses: int) -> None:
    make_user("ann")
    for minute in range(150):
        assert tried("wrong", address=f"198.51.100.{minute % addresses}") == 200
        pass_time(60)
    assert tried(PASSWORD) == 302
    assert tried(PASSWORD, address="198.51.100.0") == 302, "not even where the guesses come from"


def test_a_browser_that_has_signed_in_is_not_kept_out_by_what_others_do() -> None:
    make_user("ann")
    own = Client()
    assert tried(PASSWORD, client=own) == 302
    own.post(reverse("logout"))
    got = [tried("wrong", address=f"198.51.100.{number}") for number in range(110)]
    assert got[-1] == 429
    assert tried(PASSWORD, address="203.0.113.5") == 429, "a browser that is not known waits"
    assert tried(PASSWORD, client=own) == 302
    assert "sessionid" in own.cookies
    other = Client()
    other.cookies["deployer_browser"] = f"x{own.cookies['deployer_browser'].value}"
    assert tried(PASSWORD, client=other) == 429, "a cookie that was made up"


def test_the_known_browser_has_a_count_of_its_own() -> None:
    make_user("ann")
    own = Client()
    tried(PASSWORD, client=own)
    own.post(reverse("logout"))
    got = [tried("wrong", client=own) for _number in range(15)]
    assert (got.count(200), got[-1]) == (11, 429)
    assert tried(PASSWORD) == 302, "others are not kept out by it"


def test_what_was_right_is_not_counted() -> None:
    make_user("ann")
    for _number in range(70):
        assert tried(PASSWORD) == 302


def test_a_try_too_many_says_when_the_next_one_is_looked_at() -> None:
    make_user("ann")
    client = Client()
    while (answer := client.post(reverse("login"), {"username": "ann", "password": "x"})).status_code == 200:
        pass
    assert answer.status_code == 429
    wait = int(answer["Retry-After"])
    assert 0 < wait <= 9 * 60
    assert "Nothing was checked" in answer.content.decode()
    pass_time(wait + 1)
    assert tried(PASSWORD, address="127.0.0.1") == 302


def test_an_address_is_that_of_the_client_only_where_a_trusted_proxy_says_so(settings: Any) -> None:
    make_user("ann")

    def by_proxy(number: int) -> int:
        forwarded = {"x-forwarded-for": f"203.0.113.{number}"}
        return Client(headers=forwarded).post(reverse("login"), {"username": "ann", "password": "x"}).status_code

    assert [by_proxy(number) for number in range(13)][-1] == 429
    FailureCount.objects.all().delete()
    settings.DEPLOYER_TRUSTED_PROXIES = [ip_network("127.0.0.1")]
    assert [by_proxy(number) for number in range(13)] == [200] * 13


def test_one_network_of_ipv6_is_one_address() -> None:
    make_user("ann")
    assert [tried("wrong", address=f"2001:db8::{number:x}") for number in range(1, 14)][-1] == 429
    assert tried("wrong", address="2001:db8:0:1::1") == 200


@pytest.mark.parametrize("name", ["nobody", "", "ann\x00", "x" * 200, "Ann"])
def test_a_name_that_nobody_has_is_answered_like_a_wrong_password(name: str) -> None:
    make_user("ann")
    answer = Client().post(reverse("login"), {"username": name, "password": "x"})
    assert answer.status_code == 200
    assert 'role="alert"' in answer.content.decode()


@pytest.mark.parametrize("values", [{"is_active": False}, {"is_service": True, "is_superuser": False}])
def test_whoever_may_not_sign_in_does_not(values: dict[str, Any]) -> None:
    make_user("ann", **values)
    client = Client()
    assert tried(PASSWORD, client=client) == 200
    assert client.get(reverse("account")).status_code == 302


@pytest.mark.parametrize("role", ["", "viewer", "admin"])
def test_the_admin_looks_at_no_password_whoever_is_signed_in(role: str) -> None:
    root = make_user("root")
    staff = make_member(role, is_staff=True) if role else make_user(is_superuser=False, is_staff=True)
    browser = Client()
    browser.force_login(staff)
    for password in ("wrong", PASSWORD):
        answer = browser.post("/admin/login/", {"username": root.username, "password": password})
        assert answer.status_code == (302 if role else 403)
        assert browser.session["_auth_user_id"] == str(staff.pk)
    new = {"old_password": PASSWORD, "new_password1": "another horse 1", "new_password2": "another horse 1"}
    answer = browser.post("/admin/password_change/", new)
    assert answer.headers["Location"] == (reverse("password") if role else "/admin/login/?next=/admin/password_change/")
    staff.refresh_from_db()
    assert staff.check_password(PASSWORD)


def test_what_was_typed_is_not_stored_where_tries_are_counted() -> None:
    tried("hunter2", name="my-password-by-mistake", address="198.51.100.77")
    rows = [f"{it.key} {it.value}" for it in FailureCount.objects.all()]
    assert rows
    assert not [row for row in rows if "mistake" in row or "198.51" in row]


# --- the cache in which is counted ----------------------------------------------------------------------


def test_the_cache_keeps_what_a_cache_keeps() -> None:
    assert cache.add("a", [1.5], 60)
    assert not cache.add("a", 2, 60)
    assert cache.get("a") == [1.5]
    cache.set("a", {"b": 1}, 60)
    assert cache.get("a") == {"b": 1}
    assert cache.touch("a", 120)
    pass_time(130)
    assert cache.get("a", "gone") == "gone"
    assert not cache.touch("a")
    assert cache.add("a", 3, 60), "what is over is not there"
    cache.set("b", 1, None)
    pass_time(10**6)
    assert cache.get("b") == 1
    assert cache.delete("b")
    assert not cache.delete("b")
    cache.clear()
    assert not FailureCount.objects.exists()


def test_strangers_make_only_so_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "MOST_ROWS", 20)
    for number in range(30):
        cache.set(f"key-{number}", number, 60 + number)
    cache.set("over", 1, 60)
    FailureCount.objects.filter(value=1).update(until=timezone.now())
    counting.sweep(timezone.now())
    assert FailureCount.objects.count() <= 20
    assert cache.get("key-29") == 29
