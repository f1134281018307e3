"""Signing in through an OpenID Connect provider: a real one on loopback."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from allauth.socialaccount.models import SocialAccount
from django.contrib.sessions.models import Session as Stored
from django.core.exceptions import ImproperlyConfigured
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from deployer.settings import oidc_issuer
from people.entries import Entry
from people.models import Grant, Team, User
from people.rights import may
from people.roles import Action, Place
from tests.factories import make_user
from tests.parts.provider import Provider, provider

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def _server() -> Iterator[Provider]:
    with provider() as it:
        yield it


@pytest.fixture
def idp(_server: Provider, settings: Any) -> Provider:
    settings.DEPLOYER_OIDC_ISSUER = _server.issuer
    settings.DEPLOYER_OIDC_CLIENT_ID = "deployer"
    settings.DEPLOYER_OIDC_CLIENT_SECRET = "hush"
    settings.DEPLOYER_OIDC_NAME = "Example ID"
    return _server


def signed_in(client: Client) -> User | None:
    number = client.session.get("_auth_user_id")
    return User.objects.get(pk=number) if number else None


def test_whoever_comes_for_the_first_time_is_a_user_without_any_right(idp: Provider, client: Client) -> None:
    idp.has("ann-1", preferred_username="ann", email="ann@example.com", name="Ann Example")
    assert "Log in with Example ID" in client.get(reverse("login")).content.decode()
    answer = idp.sign_in(client, "ann-1")
    assert (answer.status_code, answer["Location"]) == (302, "/")
    user = signed_in(client)
    assert user is not None
    assert (user.username, user.email, user.has_usable_password()) == ("ann", "ann@example.com", False)
    assert (user.is_superuser, user.is_staff) == (False, False)
    assert not may(user, Action.SEE, Place("staging"))
    acts = [*Entry.objects.order_by("pk").values_list("act", "user_name", "name")]
    assert acts[:2] == [("created", "ann", "ann"), ("signed_in", "ann", "ann")]
    again = Client()
    idp.has("ann-1", preferred_username="another-name", email="other@example.com")
    idp.sign_in(again, "ann-1")
    assert signed_in(again) == user, "known by its sub, not by its name"


def test_a_name_that_is_taken_stays_with_its_owner(idp: Provider, client: Client) -> None:
    admin = make_user("root")
    idp.has("mallory", preferred_username="ROOT", email=admin.email or "x@example.com")
    idp.sign_in(client, "mallory")
    user = signed_in(client)
    assert user is not None
    assert user.username == "ROOT-2"
    assert not user.is_superuser


def test_groups_give_teams_at_each_sign_in_and_take_away_what_they_gave(idp: Provider, client: Client) -> None:
    operators, others = Team.objects.create(name="ops", provider_group="ops"), Team.objects.create(name="by hand")
    named = Team.objects.create(name="named", provider_group="leads")
    Grant.objects.create(team=operators, role="operator", environment="staging")
    idp.has("bob", preferred_username="bob", groups=["ops", "unknown", 7])
    idp.sign_in(client, "bob")
    user = signed_in(client)
    assert user is not None
    others.members.add(user)
    named.members.add(user)
    assert [*user.teams.values_list("name", flat=True)] == ["by hand", "named", "ops"]
    assert may(user, Action.OPERATE, Place("staging"))
    idp.has("bob", preferred_username="bob", groups=["leads"])
    idp.sign_in(Client(), "bob")
    assert [*user.teams.values_list("name", flat=True)] == ["by hand", "named"], "what was given by hand stays"
    assert not may(User.objects.get(pk=user.pk), Action.OPERATE, Place("staging"))
    idp.has("bob", preferred_username="bob")
    idp.sign_in(Client(), "bob")
    assert [*user.teams.values_list("name", flat=True)] == ["by hand", "named"]
    told = Entry.objects.filter(kind="team", name="ops").order_by("pk")
    assert [it.note for it in told] == ["By the groups of the provider, at a sign-in."] * 2


def test_another_claim_may_hold_the_groups(idp: Provider, client: Client, settings: Any) -> None:
    settings.DEPLOYER_OIDC_GROUPS_CLAIM = "roles"
    team = Team.objects.create(name="ops", provider_group="ops")
    Team.objects.create(name="without a group")
    idp.has("eve", preferred_username="eve", roles="ops", groups=["", "other"])
    idp.sign_in(client, "eve")
    assert [*User.objects.get(username="eve").teams.all()] == [team]


def test_a_session_that_the_provider_let_in_ends_after_twelve_hours_however_it_is_used(
    idp: Provider, client: Client
) -> None:
    idp.sign_in(client, "carol@example.com")
    ends = Stored.objects.get().expire_date
    assert timedelta(hours=11, minutes=50) < ends - timezone.now() <= timedelta(hours=12)
    session = client.session
    session["used"] = True
    session.save()
    assert abs(Stored.objects.get().expire_date - ends) < timedelta(seconds=2)


@pytest.mark.parametrize(
    ("trusted", "claims", "is_known"),
    [
        (True, {"email": "ADMIN@example.com"}, True),
        (True, {"email": "admin@example.com", "email_verified": True}, True),
        (True, {"email": "admin@example.com", "email_verified": False}, False),
        (True, {"email": "other@example.com"}, False),
        (False, {"email": "admin@example.com", "email_verified": True}, False),
    ],
)
def test_an_address_makes_somebody_a_user_only_where_the_provider_is_trusted_with_it(
    idp: Provider, client: Client, settings: Any, trusted: bool, claims: dict[str, Any], is_known: bool
) -> None:
    settings.DEPLOYER_OIDC_TRUST_EMAIL = trusted
    admin = make_user("admin", email="admin@example.com")
    idp.has("x", preferred_username="x", **claims)
    idp.sign_in(client, "x")
    assert (signed_in(client) == admin) is is_known
    if is_known:
        assert admin.check_password("correct horse"), "the password stays: one way in more"
        idp.has("y", preferred_username="y", **claims)
        again = Client()
        idp.sign_in(again, "y")
        assert signed_in(again) != admin, "another person with the address of one who is known"


def test_another_issuer_with_the_same_sub_is_somebody_else(idp: Provider, client: Client, settings: Any) -> None:
    idp.has("1", preferred_username="one")
    idp.sign_in(client, "1")
    with provider() as other:
        settings.DEPLOYER_OIDC_ISSUER = other.issuer
        other.has("1", preferred_username="one")
        again = Client()
        other.sign_in(again, "1")
        assert signed_in(again) != signed_in(client)


def test_a_token_of_an_issuer_that_is_not_the_one_of_the_settings_is_refused(
    idp: Provider, client: Client, settings: Any
) -> None:
    """It answers at this address, and calls itself by another."""
    settings.DEPLOYER_OIDC_ISSUER = idp.issuer.replace("localhost", "127.0.0.1") + "/"
    away = client.get("/login/provider/")
    answer = client.get(idp.consent(away["Location"], "1"), follow=True)
    assert signed_in(client) is None
    assert "did not work" in answer.content.decode()
    assert not User.objects.exists()
    assert "issuer" in Entry.objects.get(act="sign_in_failed").note


def test_a_provider_that_is_away_says_so_and_the_local_form_stays(client: Client, settings: Any) -> None:
    settings.DEPLOYER_OIDC_ISSUER = "http://127.0.0.1:9"
    settings.DEPLOYER_OIDC_CLIENT_ID = "deployer"
    page = client.get("/login/provider/", follow=True).content.decode()
    assert "did not work" in page
    make_user("admin")
    assert client.post(reverse("login"), {"username": "admin", "password": "correct horse"}).status_code == 302
    assert signed_in(client) is not None


def test_a_sign_in_that_was_cancelled_or_made_up_lets_nobody_in(idp: Provider, client: Client) -> None:
    away = client.get("/login/provider/")["Location"]
    denied = idp.consent(away, "1", action="deny")
    client.get(denied)
    for query in ("", "?code=x&state=y", "?state=y", "?error=access_denied&state=y"):
        assert client.get(f"/login/provider/callback/{query}").status_code == 302
    other = Client()
    good = idp.consent(client.get("/login/provider/")["Location"], "1")
    other.get(good)
    assert signed_in(other) is None, "the state is of another browser"
    assert not User.objects.exists()


def test_strangers_fill_neither_the_record_nor_the_provider(idp: Provider, client: Client) -> None:
    got = [client.get("/login/provider/callback/?code=x").status_code for _number in range(70)]
    assert (got[0], got.count(302), got[-1]) == (302, 60, 429)
    assert Entry.objects.filter(act="sign_in_failed").count() == 60


@pytest.mark.parametrize("query", ["?process=connect", "?process=redirect&next=/projects/", "?scope=admin&action=x"])
def test_nothing_but_the_way_back_is_taken_from_an_address(idp: Provider, query: str) -> None:
    victim = make_user("victim")
    client = Client()
    client.force_login(victim)
    idp.sign_in(client, "attacker", query)
    assert not SocialAccount.objects.filter(user=victim).exists()
    assert signed_in(client) != victim


@pytest.mark.parametrize(
    ("asked", "led"), [("/projects/", "/projects/"), ("https://evil.example/", "/"), ("//e.e", "/")]
)
def test_after_the_provider_one_is_where_one_wanted_to_be_on_this_site(
    idp: Provider, client: Client, asked: str, led: str
) -> None:
    assert idp.sign_in(client, "1", f"?next={asked}")["Location"] == led


def test_somebody_who_was_deactivated_here_does_not_come_in_by_the_provider(idp: Provider, client: Client) -> None:
    idp.sign_in(client, "gone")
    User.objects.update(is_active=False)
    again = Client()
    page = idp.sign_in(again, "gone")
    assert page["Location"] == reverse("login")
    assert signed_in(again) is None
    assert "deactivated" in again.get(page["Location"]).content.decode()


def test_without_a_provider_there_are_no_addresses_of_one(client: Client) -> None:
    assert client.get("/login/provider/").status_code == 404
    assert client.get("/login/provider/callback/").status_code == 404
    assert "provider" not in client.get(reverse("login")).content.decode()


def test_an_issuer_is_an_address_that_nobody_listens_to() -> None:
    for good in ("", "https://id.example.com", "https://id.example.com/realms/a/", "http://localhost:8080"):
        assert oidc_issuer(good) == good
    wrong = [
        "http://id.example.com",
        "id.example.com",
        "https://",
        "https://a:b@id.example.com",
        "https://id.example/?a=b",
    ]
    for text in wrong:
        with pytest.raises(ImproperlyConfigured, match="DEPLOYER_OIDC_ISSUER must be"):
            oidc_issuer(text)


ALLAUTHS = [
    "signup/",
    "login/",
    "password/reset/",
    "email/",
    "confirm-email/",
    "social/connections/",
    "2fa/",
    "inactive/",
]


@pytest.mark.parametrize("path", [f"/{root}/{rest}" for root in ("accounts", "account", "login") for rest in ALLAUTHS])
def test_what_django_allauth_has_besides_is_not_there(path: str) -> None:
    client = Client()
    client.force_login(make_user())
    assert client.get(path).status_code == 404
