"""The second factor: set up, asked for, demanded, lost; and how its secrets are kept."""

import json
import re
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value, yield_hotp_counters_from_time
from cryptography.fernet import Fernet
from django.conf import settings as site
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from deployer.keyring import census, places, prepare_keys, rotate
from people import sealing
from people.entries import Entry
from people.factors import is_demanded
from people.models import ApiToken, Grant, User
from tests.factories import make_deployment, make_group, make_project, make_server, make_user

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse"


def code_of(secret: str) -> str:
    """What an app shows now."""
    return str(format_hotp_value(hotp_value(secret, [*yield_hotp_counters_from_time()][1])))


def wrong_code(secret: str) -> str:
    return f"{(int(code_of(secret)) + 1) % 10**6:06}"


def log_in(client: Client, user: User, password: str = PASSWORD, **values: str) -> Any:
    return client.post(reverse("login"), {"username": user.username, "password": password} | values)


def confirmed(client: Client) -> None:
    """It is shown once more that it is the user."""
    answer = client.post(reverse("account_reauthenticate"), {"password": PASSWORD})
    assert answer.status_code == 302, answer.content.decode()


def with_app(user: User) -> tuple[Client, str, list[str]]:
    """A browser of ``user``, who has set up an app in it; its key, and the recovery codes."""
    client = Client()
    assert log_in(client, user).status_code == 302
    confirmed(client)
    page = client.get(reverse("mfa_activate_totp")).content.decode()
    assert 'src="data:image/svg+xml;base64,' in page
    secret = client.session["mfa.totp.secret"]
    done = client.post(reverse("mfa_activate_totp"), {"code": code_of(secret)}, follow=True)
    codes = re.findall(r"<li>(\d{8})</li>", done.content.decode())
    assert len(codes) == 10
    cache.clear()  # that the code was used: the tests do not wait for the next one
    return client, secret, codes


def is_in(client: Client) -> bool:
    return client.get(reverse("account")).status_code == 200


def test_a_sign_in_asks_for_the_code_and_nothing_is_open_before() -> None:
    user = make_user("ann")
    _client, secret, _codes = with_app(user)
    other = Client()
    answer = log_in(other, user, next="/projects/")
    assert answer["Location"] == reverse("mfa_authenticate")
    assert not is_in(other)
    assert other.get("/admin/").status_code == 302
    wrong = other.post(reverse("mfa_authenticate"), {"code": wrong_code(secret)})
    assert wrong.status_code == 200
    assert not is_in(other)
    right = other.post(reverse("mfa_authenticate"), {"code": code_of(secret)})
    assert right["Location"] == "/projects/"
    assert is_in(other)
    third = Client()
    log_in(third, user)
    assert third.post(reverse("mfa_authenticate"), {"code": code_of(secret)}).status_code == 200, "a code is good once"
    assert "code of the second factor was wrong" in Entry.objects.filter(act="sign_in_failed").order_by("pk")[0].note


def test_the_login_of_the_admin_is_the_same_one() -> None:
    user = make_user("ann")
    _client, secret, _codes = with_app(user)
    other = Client()
    way = other.get("/admin/")["Location"]
    login = other.get(way)["Location"]
    assert login.startswith(reverse("login"))
    other.post(login, {"username": "ann", "password": PASSWORD, "next": "/admin/"})
    assert other.get("/admin/").status_code == 302
    assert other.post(reverse("mfa_authenticate"), {"code": code_of(secret)})["Location"] == "/admin/"
    assert other.get("/admin/").status_code == 200
    assert other.post("/admin/login/", {"username": "ann", "password": PASSWORD}).status_code == 302


def test_a_recovery_code_is_good_once_and_the_codes_are_shown_once() -> None:
    user = make_user("ann")
    client, _secret, codes = with_app(user)
    shown = client.get(reverse("mfa_view_recovery_codes")).content.decode()
    assert not [code for code in codes if code in shown]
    other, third = Client(), Client()
    log_in(other, user)
    assert other.post(reverse("mfa_authenticate"), {"code": codes[3]}).status_code == 302
    assert is_in(other)
    log_in(third, user)
    assert third.post(reverse("mfa_authenticate"), {"code": codes[3]}).status_code == 200
    new = client.post(reverse("mfa_generate_recovery_codes"), follow=True).content.decode()
    assert len({*re.findall(r"<li>(\d{8})</li>", new)} - {*codes}) == 10
    assert third.post(reverse("mfa_authenticate"), {"code": codes[4]}).status_code == 200, "an old one"


def test_whoever_has_the_password_cannot_try_codes_for_long() -> None:
    user = make_user("ann")
    _client, secret, _codes = with_app(user)
    thief = Client()
    log_in(thief, user)
    for _number in range(6):
        thief.post(reverse("mfa_authenticate"), {"code": wrong_code(secret)})
    assert thief.post(reverse("mfa_authenticate"), {"code": code_of(secret)}).status_code == 200
    assert not is_in(thief)


ASKING = ["mfa_activate_totp", "mfa_add_webauthn", "mfa_generate_recovery_codes"]


@pytest.mark.parametrize("name", ASKING)
def test_a_factor_is_changed_only_after_the_password_was_given_once_more(name: str) -> None:
    client = Client()
    log_in(client, make_user("ann"))
    assert client.get(reverse(name))["Location"].startswith(reverse("account_reauthenticate"))
    wrong = client.post(reverse("account_reauthenticate"), {"password": "wrong"})
    assert "not your password" in wrong.content.decode()
    assert client.get(reverse(name)).status_code == 302
    confirmed(client)
    assert client.get(reverse(name)).status_code == 200
    stranger = Client().get(reverse(name))
    assert stranger["Location"].startswith(reverse("login"))


def test_whoever_took_a_session_cannot_try_the_password_for_long() -> None:
    client = Client()
    log_in(client, make_user("ann"))
    got = [client.post(reverse("account_reauthenticate"), {"password": str(n)}).status_code for n in range(14)]
    assert got[0] == 200
    assert got[-1] == 429


def test_setting_it_up_ends_the_sessions_that_began_without_it() -> None:
    user = make_user("ann")
    before = Client()
    log_in(before, user)
    assert is_in(before)
    client, _secret, _codes = with_app(user)
    assert is_in(client)
    assert not is_in(before)


def test_without_the_app_the_password_is_enough_again() -> None:
    user = make_user("ann")
    client, _secret, _codes = with_app(user)
    assert "Remove the authenticator app?" in client.get(reverse("mfa_deactivate_totp")).content.decode()
    client.post(reverse("mfa_deactivate_totp"))
    assert not Authenticator.objects.exists(), "and its recovery codes are gone"
    other = Client()
    log_in(other, user)
    assert is_in(other)
    acts = [it.act for it in Entry.objects.filter(act__startswith="factor").order_by("pk")]
    assert acts == ["factor_added", "factor_added", "factor_removed", "factor_removed"]
    assert {it.user_name for it in Entry.objects.filter(act__startswith="factor")} == {"ann"}


# --- how secrets are kept ------------------------------------------------------------------------------


def _stored() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT data FROM mfa_authenticator")
        return json.dumps([str(data) for (data,) in cursor.fetchall()])


def test_no_secret_of_a_factor_is_stored_or_recorded_in_clear() -> None:
    _client, secret, codes = with_app(make_user("ann"))
    seed = Authenticator.objects.get(type="recovery_codes").data["seed"]
    record = json.dumps([it.as_json() for it in Entry.objects.all()])
    for text in (secret, sealing.decrypt(seed), *codes):
        assert text not in _stored()
        assert text not in record


def test_a_rotation_seals_them_with_the_newest_key(settings: Any) -> None:
    prepare_keys()
    user = make_user("ann")
    _client, secret, codes = with_app(user)
    old, new = site.DEPLOYER_ENCRYPTION_KEYS[0], Fernet.generate_key().decode()
    settings.DEPLOYER_ENCRYPTION_KEYS = [new, old]
    assert sum(changed for place in places() for changed in rotate(place)) == 2
    assert not census().unreadable
    settings.DEPLOYER_ENCRYPTION_KEYS = [new]
    assert len([*census().under.elements()]) == 2
    other = Client()
    log_in(other, user)
    assert other.post(reverse("mfa_authenticate"), {"code": code_of(secret)}).status_code == 302
    third = Client()
    log_in(third, user)
    assert third.post(reverse("mfa_authenticate"), {"code": codes[0]}).status_code == 302


def test_a_key_that_is_lost_is_noticed_and_the_page_says_so(settings: Any) -> None:
    user = make_user("ann")
    _client, secret, _codes = with_app(user)
    settings.DEPLOYER_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    assert len(census().unreadable) == 2
    other = Client()
    log_in(other, user)
    answer = other.post(reverse("mfa_authenticate"), {"code": code_of(secret)})
    assert answer.status_code == 409
    assert not is_in(other)


# --- demanded ------------------------------------------------------------------------------------------


def granted(role: str, environment: str = "", project: int | None = None, **values: Any) -> User:
    user: User = make_user(is_superuser=False, **values)
    Grant.objects.create(user=user, role=role, environment=environment, project=project)
    return user


@pytest.mark.parametrize(
    ("role", "environment", "wanted", "demanded"),
    [
        ("operator", "production", "production", True),
        ("operator", "", "production", True),
        ("admin", "production", "production", True),
        ("viewer", "", "production", False),
        ("maintainer", "staging", "production", False),
        ("viewer", "staging", "everybody", True),
        ("admin", "", "off", False),
    ],
)
def test_of_whom_it_is_demanded(settings: Any, role: str, environment: str, wanted: str, demanded: bool) -> None:
    settings.DEPLOYER_SECOND_FACTOR = wanted
    assert is_demanded(granted(role, environment)) is demanded
    assert not is_demanded(granted(role, environment, is_service=True))


PLACES = ["/", "/projects/", "/servers/", "/account/", "/account/tokens/", "/people/", "/admin/", "/rq/", "/record/"]


@pytest.mark.parametrize("path", [*PLACES, "/activity/", "/overview/", "/activity/?pass=x", "/projects/?pass=x"])
def test_before_it_is_set_up_there_is_no_other_page(settings: Any, path: str) -> None:
    settings.DEPLOYER_SECOND_FACTOR = "production"
    client = Client()
    log_in(client, make_user("ann", is_superuser=True))
    answer = client.get(path)
    if "pass=" in path:
        assert "HX-Refresh" in answer or answer["Location"].startswith(reverse("login"))
    else:
        assert (answer.status_code, answer["Location"]) == (302, reverse("mfa_index"))
    page = client.get(reverse("mfa_index")).content.decode()
    assert "demanded by this site" in page


def test_nothing_is_done_in_production_before_it_is_set_up_and_all_is_after(settings: Any) -> None:
    settings.DEPLOYER_SECOND_FACTOR = "production"
    user = granted("operator", "production")
    project, group = make_project(environment="production"), make_group(make_server(), environment="production")
    deployment = make_deployment(project, group, deployment_type="restart_only")
    client = Client()
    log_in(client, user)
    answer = client.post(reverse("deployment_cancel", args=[deployment.pk]))
    assert answer["Location"] == reverse("mfa_index")
    part = client.post(reverse("deployment_cancel", args=[deployment.pk]), headers={"hx-request": "true"})
    assert part["HX-Redirect"] == reverse("mfa_index")
    deployment.refresh_from_db()
    assert (deployment.status, deployment.cancel_requested_at) == ("pending", None)
    for path in ("/api/v1/docs", "/api/v1/openapi.json"):
        answer = client.get(path)
        assert answer.status_code == 403
        assert "second factor" in answer.json()["detail"]
    client.post(reverse("logout"))
    client, _secret, _codes = with_app(user)
    assert client.get(deployment.get_absolute_url()).status_code == 200


def test_a_poll_with_a_good_pass_is_one_query_where_a_factor_is_demanded(settings: Any) -> None:
    settings.DEPLOYER_SECOND_FACTOR = "production"
    deployment = make_deployment(make_project(), make_group(make_server()))
    client, _secret, _codes = with_app(make_user("ann"))
    poll = re.search(r'hx-get="([^"]*pass=[^"]*)"', client.get(deployment.get_absolute_url()).content.decode())
    assert poll is not None
    with CaptureQueriesContext(connection) as asked:
        client.get(poll[1].replace("&amp;", "&"))
    assert len(asked) == 1, [query["sql"] for query in asked]


def test_a_token_owes_no_second_factor(settings: Any) -> None:
    settings.DEPLOYER_SECOND_FACTOR = "everybody"
    token = ApiToken(name="ci", user=granted("operator", "production"))
    secret = token.renew()
    token.save()
    answer = Client().get("/api/v1/deployments", headers={"authorization": f"Bearer {secret}"})
    assert answer.status_code == 200


# --- lost ----------------------------------------------------------------------------------------------


def test_an_admin_lets_somebody_in_who_has_lost_it_and_nobody_else_does() -> None:
    user, admin = granted("operator"), make_user("admin")
    with_app(user)
    address = reverse("user_factors_remove", args=[user.pk])
    for other in (granted("maintainer"), granted("admin", "staging"), user):
        client = Client()
        client.force_login(other)
        client.post(address)
        assert Authenticator.objects.filter(user=user).count() == 2
    boss = Client()
    boss.force_login(admin)
    assert "authenticator app" in boss.get(reverse("user", args=[user.pk])).content.decode()
    boss.post(address)
    assert not Authenticator.objects.exists()
    assert {it.user_name for it in Entry.objects.filter(act="factor_removed")} == {"admin"}
    client = Client()
    log_in(client, user)
    assert is_in(client)


def test_the_factors_of_a_superuser_are_removed_by_a_superuser_or_on_the_machine() -> None:
    root = make_user("root")
    with_app(root)
    client = Client()
    client.force_login(granted("admin"))
    client.post(reverse("user_factors_remove", args=[root.pk]))
    assert Authenticator.objects.count() == 2
    call_command("forget_second_factor", "root")
    assert not Authenticator.objects.exists()
    with pytest.raises(CommandError):
        call_command("forget_second_factor", "nobody")
