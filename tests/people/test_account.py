"""One's own account: language and time zone, tokens within one's rights, sessions."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.sessions.models import Session as Stored
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone, translation

from deployer.models import Deployment
from people import sessions
from people.entries import Act, Entry
from people.models import ApiToken, Grant, Session, User
from people.preferences import ZONE_COOKIE
from people.rights import may
from people.roles import Action, Place
from tests.factories import make_deployment, make_group, make_project, make_server, make_user

pytestmark = pytest.mark.django_db
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) Version/17.5 Mobile/15E148 Safari/604.1"


@pytest.fixture(autouse=True)
def _own_language() -> Any:
    """A request leaves its language behind in its thread, which is that of all tests."""
    yield
    translation.activate("en")


def granted(role: str, environment: str = "", **values: Any) -> User:
    user: User = make_user(is_superuser=False, **values)
    Grant.objects.create(user=user, role=role, environment=environment)
    return user


def browser_of(user: User, agent: str = FIREFOX, address: str = "192.0.2.7") -> Client:
    """A browser that has signed in by the login page."""
    client = Client(headers={"user-agent": agent}, REMOTE_ADDR=address)
    answer = client.post(reverse("login"), {"username": user.username, "password": "correct horse"})
    assert answer.status_code == 302
    return client


# --- language and time zone --------------------------------------------------------------------------


def test_the_language_of_an_account_wins_over_the_browser_and_its_cookie() -> None:
    client = browser_of(granted("viewer"))
    assert "Overview" in client.get(reverse("home")).content.decode()
    client.post(reverse("account"), {"language": "zh-hans", "time_zone": ""})
    client.cookies["django_language"] = "en"
    page = client.get(reverse("home"), headers={"accept-language": "en"})
    assert '<html lang="zh-hans"' in page.content.decode()
    assert page.cookies["django_language"].value == "zh-hans", "for polls, which do not look up their user"
    client.post(reverse("set_language"), {"language": "en", "next": "/"})
    elsewhere = browser_of(User.objects.get(), IPHONE)
    assert '<html lang="en"' in elsewhere.get(reverse("home"), headers={"accept-language": "zh"}).content.decode()


def test_the_time_zone_of_an_account_is_that_of_its_pages_and_polls() -> None:
    user = make_user()
    Deployment.objects.filter(pk=make_deployment(make_project(), make_group(make_server())).pk)
    client = browser_of(user)
    client.post(reverse("account"), {"language": "", "time_zone": "Asia/Tokyo"})
    page = client.get(reverse("sessions"))
    assert "JST" in page.content.decode()
    assert client.cookies[ZONE_COOKIE].value == "Asia/Tokyo"
    assert timezone.get_current_timezone_name() == "UTC", "nobody else's clock is set"
    client.post(reverse("account"), {"language": "", "time_zone": ""})
    assert "JST" not in client.get(reverse("sessions")).content.decode()
    assert client.cookies[ZONE_COOKIE].value == ""


@pytest.mark.parametrize("wrong", [{"language": "fr"}, {"time_zone": "../../etc/passwd"}, {"time_zone": "Mars/Base"}])
def test_a_language_or_a_zone_that_there_is_not_is_refused(wrong: dict[str, str]) -> None:
    client = browser_of(make_user())
    answer = client.post(reverse("account"), {"language": "", "time_zone": ""} | wrong)
    assert answer.context["form"].errors.keys() == wrong.keys()
    client.cookies[ZONE_COOKIE] = wrong.get("time_zone", "x")
    assert client.get("/login/?pass=x").status_code in {200, 302}


def test_a_form_of_ones_own_account_changes_nothing_else_of_it() -> None:
    user = granted("viewer")
    client = browser_of(user)
    client.post(reverse("account"), {"language": "en", "is_superuser": "on", "is_staff": "on", "username": "root"})
    user.refresh_from_db()
    assert (user.is_superuser, user.is_staff, user.username == "root") == (False, False, False)
    assert user.language == "en"


@pytest.mark.parametrize("elsewhere", ["https://evil.example.com/", "//evil.example.com", "/\\evil.example.com"])
def test_the_switch_of_the_language_leads_to_no_other_site(elsewhere: str) -> None:
    client = browser_of(make_user())
    answer = client.post(reverse("set_language"), {"language": "en", "next": elsewhere})
    assert "evil" not in answer.headers["Location"]


def test_a_poll_that_brings_nothing_still_is_one_query() -> None:
    deployment = make_deployment(make_project(), make_group(make_server()))
    user = make_user()
    user.language, user.time_zone = "zh-hans", "Asia/Tokyo"
    user.save()
    client = browser_of(user)
    page = client.get(deployment.get_absolute_url()).content.decode()
    poll = re.search(r'hx-get="([^"]*pass=[^"]*)"', page)
    assert poll is not None
    address = poll[1].replace("&amp;", "&")
    with CaptureQueriesContext(connection) as asked:
        client.get(address)
    assert len(asked) == 1, [query["sql"] for query in asked]


# --- tokens ------------------------------------------------------------------------------------------


def made(client: Client, **form: Any) -> str:
    page = client.post(reverse("tokens"), {"name": "laptop", "role": "viewer", "lasts": "90"} | form).content.decode()
    secret = re.search(r"dpl_[\w-]{43}", page)
    assert secret is not None
    return secret[0]


def test_a_token_is_shown_once_and_does_what_it_was_made_for() -> None:
    shop, other = make_project(environment="staging"), make_project(environment="staging")
    client = browser_of(granted("maintainer", "staging"))
    secret = made(client, role="operator", projects=[shop.pk], lasts="30")
    page = client.get(reverse("tokens")).content.decode()
    assert secret not in page
    assert secret[:12] in page
    assert "Never used" in page
    row = ApiToken.find(secret)
    assert row is not None
    assert may(row.user, Action.OPERATE, shop)
    assert not may(row.user, Action.EDIT, shop)
    assert not may(row.user, Action.SEE, other)
    assert row.expires_at is not None
    assert timedelta(days=29) < row.expires_at - timezone.now() < timedelta(days=31)
    assert "Never used" not in client.get(reverse("tokens")).content.decode()
    client.post(reverse("token_revoke", args=[row.pk]))
    assert ApiToken.find(secret) is None


@pytest.mark.parametrize("role", ["operator", "maintainer", "admin", "owner", ""])
def test_a_token_allows_no_more_than_its_maker_may(role: str) -> None:
    client = browser_of(granted("viewer"))
    answer = client.post(reverse("tokens"), {"name": "x", "role": role, "lasts": "30"})
    assert "role" in answer.context["form"].errors
    assert not ApiToken.objects.exists()


def test_a_token_is_for_projects_in_sight_only() -> None:
    hidden = make_project(environment="production")
    make_project(environment="staging")
    client = browser_of(granted("maintainer", "staging"))
    for project in (hidden.pk, 9999, "x", "9" * 40):
        form = {"name": "x", "role": "viewer", "lasts": "30", "projects": [project]}
        assert "projects" in client.post(reverse("tokens"), form).context["form"].errors
    assert hidden.name not in client.get(reverse("tokens")).content.decode()
    assert not ApiToken.objects.exists()


def test_a_token_loses_what_its_user_loses() -> None:
    user = granted("operator", "staging")
    secret = made(browser_of(user), role="operator")
    user.grants.update(role="viewer")
    row = ApiToken.find(secret)
    assert row is not None
    assert not may(row.user, Action.OPERATE, Place("staging"))
    assert may(row.user, Action.SEE, Place("staging"))


@pytest.mark.parametrize("until", ["", "2020-01-01", "9999-01-01", "x"])
def test_a_token_has_an_end_that_is_ahead(until: str) -> None:
    client = browser_of(granted("viewer"))
    answer = client.post(reverse("tokens"), {"name": "x", "role": "viewer", "lasts": "date", "until": until})
    assert "until" in answer.context["form"].errors
    assert not ApiToken.objects.exists()
    day = timezone.localdate() + timedelta(days=3)
    row = ApiToken.find(made(client, lasts="date", until=day.isoformat()))
    assert row is not None
    assert row.expires_at is not None
    assert timezone.localdate(row.expires_at) == day + timedelta(days=1), "good through that day"


@pytest.mark.parametrize("name", ["a\nb", "a\x00b", "a\x1bb", "", "x" * 101])
def test_the_name_of_a_token_is_one_line(name: str) -> None:
    client = browser_of(granted("viewer"))
    answer = client.post(reverse("tokens"), {"name": name, "role": "viewer", "lasts": "30"})
    assert "name" in answer.context["form"].errors


def test_who_may_nothing_makes_no_token_and_nobody_revokes_anothers() -> None:
    client = browser_of(make_user(is_superuser=False))
    assert "no rights yet" in client.get(reverse("tokens")).content.decode()
    answer = client.post(reverse("tokens"), {"name": "x", "role": "viewer", "lasts": "30"})
    assert "role" in answer.context["form"].errors
    other = ApiToken(name="theirs", user=granted("viewer"))
    other.renew()
    other.save()
    assert client.post(reverse("token_revoke", args=[other.pk])).status_code == 404
    assert ApiToken.objects.get() == other


def test_the_same_form_sent_twice_makes_one_token() -> None:
    client = browser_of(granted("viewer"))
    made(client)
    answer = client.post(reverse("tokens"), {"name": "laptop", "role": "viewer", "lasts": "90"})
    assert "name" in answer.context["form"].errors
    assert ApiToken.objects.count() == 1


# --- sessions ----------------------------------------------------------------------------------------


def test_sessions_name_browser_address_and_last_use_and_end_one_by_one() -> None:
    user = granted("viewer")
    laptop, phone = browser_of(user), browser_of(user, IPHONE, "2001:db8::17")
    page = laptop.get(reverse("sessions")).content.decode()
    for word in ("Firefox on Linux", "192.0.2.7", "Safari on iPhone", "2001:db8::17"):
        assert word in page
    for stored in Stored.objects.all():
        assert stored.session_key not in page
    theirs = Session.objects.get(address="2001:db8::17")
    laptop.post(reverse("session_end", args=[theirs.pk]))
    assert phone.get(reverse("home")).status_code == 302
    assert laptop.get(reverse("home")).status_code == 200
    assert not Session.objects.filter(pk=theirs.pk).exists()


def test_all_other_sessions_end_also_those_that_were_never_noted() -> None:
    user, other = granted("viewer"), granted("viewer")
    here, there, earlier, elsewhere = (browser_of(each) for each in (user, user, user, other))
    Session.objects.filter(session_id=earlier.session.session_key).delete()
    here.post(reverse("sessions_end"))
    assert [client.get(reverse("home")).status_code for client in (here, there, earlier, elsewhere)] == [
        200,
        302,
        302,
        200,
    ]


def test_nobody_ends_the_session_of_somebody_else() -> None:
    mine, theirs = browser_of(granted("viewer")), browser_of(granted("viewer"))
    row = Session.objects.get(session_id=theirs.session.session_key)
    assert mine.post(reverse("session_end", args=[row.pk])).status_code == 404
    assert theirs.get(reverse("home")).status_code == 200


def test_a_session_from_before_is_noted_when_it_is_used_and_its_use_only_now_and_then() -> None:
    client = browser_of(granted("viewer"))
    Session.objects.all().delete()
    sessions._noted.clear()
    client.get(reverse("home"))
    row = Session.objects.get()
    assert row.browser == "Firefox on Linux"
    Session.objects.update(last_used_at=row.last_used_at - timedelta(days=1))
    client.get(reverse("home"))
    assert Session.objects.get().last_used_at < row.last_used_at, "noted a moment ago"
    sessions._noted.clear()
    client.get(reverse("home"))
    assert Session.objects.get().last_used_at > row.last_used_at


def test_a_logout_and_a_new_password_leave_no_session_behind() -> None:
    user = granted("viewer")
    here, there = browser_of(user), browser_of(user)
    there.post(reverse("logout"))
    assert Session.objects.count() == 1
    there = browser_of(user)
    words = {
        "old_password": "correct horse",
        "new_password1": "another horse now",
        "new_password2": "another horse now",
    }
    assert here.post(reverse("password"), words).status_code == 302
    assert here.get(reverse("home")).status_code == 200
    assert there.get(reverse("home")).status_code == 302
    assert Stored.objects.count() == 1


@pytest.mark.parametrize("agent", ["", "x" * 5000, "\x00\x1b[2J<script>", "Mozilla/5.0 \u202e"])
def test_a_browser_may_say_of_itself_what_it_likes(agent: str) -> None:
    client = browser_of(granted("viewer"), agent)
    page = client.get(reverse("sessions")).content.decode()
    assert "<script>" not in page.split("<main")[1].split("</main")[0]
    assert len(Session.objects.get().agent) <= 300


# --- the record --------------------------------------------------------------------------------------


def test_what_somebody_does_to_their_account_is_recorded() -> None:
    anna = make_user("anna")
    here, there = Client(), Client()
    for client in (there, here):
        client.force_login(anna)
        client.get(reverse("account"))
    here.post(reverse("account"), {"language": "en", "time_zone": "Asia/Tokyo"})
    here.post(reverse("account"), {"language": "en", "time_zone": "Asia/Tokyo"})
    here.post(reverse("set_language"), {"language": "zh-hans"})
    here.post(reverse("tokens"), {"name": "ci", "role": "viewer", "lasts": "90"})
    here.post(reverse("token_revoke", args=[ApiToken.objects.get().pk]))
    theirs = Session.objects.exclude(session_id=here.session.session_key).get()
    here.post(reverse("session_end", args=[theirs.pk]))
    here.post(reverse("sessions_end"))
    rows = Entry.objects.exclude(act=Act.SIGNED_IN).order_by("pk")
    assert [*rows.values_list("act", "kind", "user_name", "note")] == [
        ("changed", "user", "anna", ""),
        ("changed", "user", "anna", ""),
        ("token_made", "apitoken", "anna", ""),
        ("token_revoked", "apitoken", "anna", ""),
        ("signed_out", "user", "anna", "in another browser"),
        ("signed_out", "user", "anna", "in all other browsers"),
    ]
    assert rows[0].after == {"language": "en", "time_zone": "Asia/Tokyo"}
    assert (rows[1].before, rows[1].after) == ({"language": "en"}, {"language": "zh-hans"})
