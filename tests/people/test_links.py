"""Links by which people set a password: good once, for a week, and for whom their maker may make them."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import authenticate
from django.core import mail
from django.core.exceptions import ImproperlyConfigured
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from deployer import settings as product
from people import links
from people.models import Grant, PasswordLink, Team, User
from people.rights import may
from people.roles import Action, Place
from tests.factories import make_user

pytestmark = pytest.mark.django_db
GOOD = {"new_password1": "a-new-one-it-is", "new_password2": "a-new-one-it-is"}


@pytest.fixture
def boss() -> Client:
    client = Client()
    client.force_login(make_user("boss", email="boss@example.com"))
    return client


def invited(boss: Client, **form: Any) -> str:
    """The address of the link that is shown to the inviter."""
    return address_in(boss.post(reverse("user_invite"), {"username": "anna"} | form).content.decode())


def address_in(page: str) -> str:
    found = re.search(r'<code id="secret">http://testserver(/join/[\w-]{43}/)</code>', page)
    assert found is not None
    return found[1]


def test_who_is_invited_chooses_a_password_and_is_what_was_granted(boss: Client) -> None:
    team = Team.objects.create(name="web")
    address = invited(boss, role="operator", place="staging:", teams=[team.pk])
    anna = User.objects.get(username="anna")
    assert not anna.is_active
    assert not may(anna, Action.SEE, Place("staging")), "nothing holds before"
    page = boss.get(reverse("people")).content.decode()
    assert "Invited" in page
    assert address not in page
    stranger = Client()
    for _look in range(2):
        assert "anna" in stranger.get(address).content.decode()
    assert "field-error" in stranger.post(address, {"new_password1": "x", "new_password2": "y"}).content.decode()
    done = stranger.post(address, GOOD)
    assert done.headers["Location"] == reverse("login")
    anna = User.objects.get(username="anna")
    assert authenticate(username="anna", password="a-new-one-it-is") == anna
    assert may(anna, Action.OPERATE, Place("staging"))
    assert [*anna.teams.all()] == [team]
    assert not anna.is_superuser
    assert not anna.is_staff
    assert "_auth_user_id" not in stranger.session, "who has a second factor is asked for it at the login"


def test_a_link_works_once(boss: Client) -> None:
    address = invited(boss)
    Client().post(address, GOOD)
    again = {"new_password1": "an-attacker-has-it", "new_password2": "an-attacker-has-it"}
    for answer in (Client().get(address), Client().post(address, again)):
        assert answer.status_code == 404
        assert "no longer works" in answer.content.decode()
    assert authenticate(username="anna", password="a-new-one-it-is") is not None


def test_a_link_that_two_use_at_once_serves_one_of_them(boss: Client) -> None:
    secret = invited(boss).split("/")[2]
    first, second = links.find(secret), links.find(secret)
    assert first is not None
    assert second is not None
    assert links.use(first, "the-first-one-wins")
    assert not links.use(second, "the-second-one-does-not")
    assert authenticate(username="anna", password="the-first-one-wins") is not None


@pytest.mark.parametrize(
    "change",
    [
        lambda: PasswordLink.objects.update(expires_at=timezone.now() - timedelta(seconds=1)),
        lambda: User.objects.filter(username="boss").update(is_active=False),
        lambda: User.objects.filter(username="boss").update(is_superuser=False),
        lambda: User.objects.filter(username="anna").update(is_superuser=True, is_service=True),
        lambda: PasswordLink.objects.all().delete(),
    ],
    ids=["expired", "its maker is gone", "its maker lost the right", "it is for a service", "withdrawn"],
)
def test_a_link_that_no_longer_holds_sets_no_password(boss: Client, change: Any) -> None:
    address = invited(boss)
    change()
    assert Client().get(address).status_code == 404
    assert Client().post(address, GOOD).status_code == 404
    assert not User.objects.get(username="anna").has_usable_password()


def test_a_new_link_makes_the_older_one_void(boss: Client) -> None:
    old = invited(boss)
    anna = User.objects.get(username="anna")
    new = address_in(boss.post(reverse("user_link", args=[anna.pk])).content.decode())
    assert Client().get(old).status_code == 404
    assert Client().get(new).status_code == 200


@pytest.mark.parametrize("secret", ["x", "a" * 43, "%00", "..%2f", "é" * 20, "a" * 5000])
def test_a_secret_that_there_is_not_opens_nothing(secret: str) -> None:
    assert Client().get(f"/join/{secret}/").status_code == 404


def test_a_link_for_a_new_password_ends_the_sessions_of_the_old_one(boss: Client) -> None:
    anna = make_user("anna", is_superuser=False)
    old = Client()
    old.force_login(anna)
    address = address_in(boss.post(reverse("user_link", args=[anna.pk])).content.decode())
    assert authenticate(username="anna", password="correct horse") == anna, "until a new one is set"
    Client().post(address, GOOD)
    assert old.get(reverse("home")).status_code == 302
    assert authenticate(username="anna", password="correct horse") is None


def test_nobody_makes_a_link_for_themselves_or_for_who_is_deactivated(boss: Client) -> None:
    own = User.objects.get(username="boss")
    gone = make_user("gone", is_superuser=False, is_active=False)
    for user, why in [(own, "Change your own password"), (gone, "reactivate it first")]:
        assert why in boss.post(reverse("user_link", args=[user.pk]), follow=True).content.decode()
    assert not PasswordLink.objects.exists()


def test_who_is_deactivated_does_not_come_back_by_an_older_link(boss: Client) -> None:
    anna = make_user("anna", is_superuser=False)
    address = address_in(boss.post(reverse("user_link", args=[anna.pk])).content.decode())
    boss.post(reverse("user_deactivate", args=[anna.pk]))
    assert Client().post(address, GOOD).status_code == 404
    assert authenticate(username="anna", password="a-new-one-it-is") is None


def test_an_admin_who_is_no_superuser_makes_nobody_one(boss: Client) -> None:
    admin = make_user("admin", is_superuser=False)
    Grant.objects.create(user=admin, role="admin")
    client = Client()
    client.force_login(admin)
    invited(client, is_superuser="on", is_staff="on", is_active="on", role="admin", place=":")
    anna = User.objects.get(username="anna")
    assert (anna.is_superuser, anna.is_staff, anna.is_active) == (False, False, False)


def test_the_link_is_mailed_where_mail_is_set_up(boss: Client, settings: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    page = boss.get(reverse("user_invite")).content.decode()
    assert "This site sends no mail" in page
    settings.DEPLOYER_EMAIL_FROM = "deployer@example.com"
    answer = boss.post(reverse("user_invite"), {"username": "anna", "email": "anna@example.com"}).content.decode()
    (sent,) = mail.outbox
    assert sent.to == ["anna@example.com"]
    assert f"http://testserver{address_in(answer)}" in sent.body
    assert "was sent to anna@example.com" in answer


def test_a_mail_that_cannot_be_sent_is_said_and_the_link_is_there(boss: Client, settings: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9
    settings.DEPLOYER_EMAIL_FROM = "deployer@example.com"
    answer = boss.post(reverse("user_invite"), {"username": "anna", "email": "anna@example.com"}).content.decode()
    assert "could not be sent" in answer
    assert Client().get(address_in(answer)).status_code == 200


@pytest.mark.parametrize(
    ("url", "sender", "said"),
    [
        ("smtp://mail.example.com", "", "belong together"),
        ("", "deployer@example.com", "belong together"),
        ("filemail:///tmp", "deployer@example.com", "must begin with"),
        ("smtp://", "deployer@example.com", "names no host"),
        ("smtp://mail.example.com:x", "deployer@example.com", "cannot be read"),
        ("smtp://me:se/cret@mail.example.com", "deployer@example.com", "percent-encoded"),
        ("smtp://mail.example.com", "nobody", "must be an e-mail address"),
    ],
)
def test_wrong_settings_of_mail_stop_the_start_without_the_password(url: str, sender: str, said: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=said) as refused:
        product.mail(url, sender)
    assert "se/cret" not in str(refused.value)


def test_the_address_of_a_mail_server_is_read() -> None:
    read = product.mail("smtp+tls://me:a%2Fb@mail.example.com", "deployer <deployer@example.com>")
    assert read["EMAIL_HOST_PASSWORD"] == "a/b"
    assert (read["EMAIL_HOST"], read["EMAIL_PORT"], read["EMAIL_USE_TLS"]) == ("mail.example.com", 587, True)
    assert product.mail("smtp+ssl://mail.example.com:466", "a@example.com")["EMAIL_PORT"] == 466
