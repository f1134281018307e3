"""The second factor in a browser: an app, a passkey of a virtual authenticator, and what the pages look like."""

from collections.abc import Iterator

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value, yield_hotp_counters_from_time
from django.core.cache import cache
from django.urls import reverse
from playwright.sync_api import Page, expect

from people.models import User
from tests.browser.test_accessibility import faults
from tests.factories import make_user

PASSWORD = "correct horse"


@pytest.fixture
def ann(page: Page) -> User:
    """Somebody who has signed in."""
    user: User = make_user("ann")
    log_in(page)
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    return user


@pytest.fixture
def authenticator(page: Page) -> Iterator[None]:
    """A device that keeps passkeys, and says yes."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    options = {"protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True}
    options |= {"isUserVerified": True, "automaticPresenceSimulation": True}
    devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    yield
    devtools.send("WebAuthn.disable")


def log_in(page: Page) -> None:
    page.goto(reverse("login"))
    page.get_by_label("User name").fill("ann")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()


def log_out(page: Page) -> None:
    page.context.clear_cookies(name="sessionid")


def code_of(secret: str) -> str:
    return str(format_hotp_value(hotp_value(secret, [*yield_hotp_counters_from_time()][1])))


def confirm(page: Page) -> None:
    expect(page.get_by_role("heading", name="Is it you?")).to_be_visible()
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Go on").click()


def test_an_app_is_set_up_and_asked_for(page: Page, ann: User) -> None:
    page.goto(reverse("account"))
    page.get_by_role("navigation", name="Your account").get_by_role("link", name="Second factor").click()
    page.get_by_role("link", name="Set up", exact=True).click()
    confirm(page)
    expect(page.get_by_role("img", name="QR code for the app")).to_be_visible()
    page.get_by_text("It cannot be scanned").click()
    secret = page.locator(".qr-text .mono").inner_text().replace(" ", "")
    page.get_by_label("The code that it shows").fill("000000" if code_of(secret) != "000000" else "111111")
    page.get_by_role("button", name="Turn it on").click()
    expect(page.get_by_role("alert")).to_be_visible()
    page.get_by_label("The code that it shows").fill(code_of(secret))
    page.get_by_role("button", name="Turn it on").click()
    expect(page.locator(".codes li")).to_have_count(10)
    recovery = page.locator(".codes li").first.inner_text()
    page.get_by_role("link", name="I have kept them").click()
    expect(page.get_by_role("link", name="Remove the authenticator app")).to_be_visible()
    cache.clear()  # that the code was used
    log_out(page)
    log_in(page)
    page.get_by_label("Code of your app").fill(code_of(secret))
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    log_out(page)
    log_in(page)
    page.get_by_label("Code of your app").fill(recovery)
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    page.goto(reverse("mfa_index"))
    expect(page.get_by_text("9 are left")).to_be_visible()


def test_a_passkey_is_made_asked_for_and_removed(page: Page, ann: User, authenticator: None) -> None:
    page.goto(reverse("mfa_index"))
    page.get_by_role("link", name="Add").click()
    confirm(page)
    page.get_by_label("Name").fill("Ann’s laptop")
    page.get_by_role("button", name="Make a passkey").click()
    expect(page.locator(".codes li")).to_have_count(10)
    assert Authenticator.objects.filter(user=ann, type="webauthn").count() == 1
    log_out(page)
    log_in(page)
    page.get_by_role("button", name="Use your passkey").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    page.goto(reverse("mfa_index"))
    page.get_by_role("link", name="Remove the passkey Ann’s laptop").click()
    page.get_by_role("link", name="Use a passkey instead").click()
    page.get_by_role("button", name="Use your passkey").click()
    page.get_by_role("button", name="Remove").click()
    expect(page.get_by_text("The passkey is removed.")).to_be_visible()
    assert not Authenticator.objects.filter(user=ann).exists()


def test_a_browser_that_gives_no_passkey_leaves_the_other_ways(page: Page, ann: User, authenticator: None) -> None:
    page.goto(reverse("mfa_add_webauthn"))
    confirm(page)
    page.get_by_role("button", name="Make a passkey").click()
    expect(page.locator(".codes li")).to_have_count(10)
    recovery = page.locator(".codes li").first.inner_text()
    log_out(page)
    log_in(page)
    page.evaluate("() => { navigator.credentials.get = () => Promise.reject(new Error('no')); }")
    page.get_by_role("button", name="Use your passkey").click()
    expect(page.get_by_text("The browser gave no passkey.")).to_be_visible()
    page.get_by_label("Or a recovery code").fill(recovery)
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()


def test_axe_finds_nothing_on_the_pages_of_the_second_factor(page: Page, ann: User, authenticator: None) -> None:
    found = faults(page, reverse("account_reauthenticate"))
    confirm(page)
    found += faults(page, reverse("mfa_activate_totp"))
    found += faults(page, reverse("mfa_add_webauthn"))
    page.get_by_role("button", name="Make a passkey").click()
    expect(page.locator(".codes li")).to_have_count(10)
    key = Authenticator.objects.get(type="webauthn")
    for name in ("mfa_index", "mfa_generate_recovery_codes", "mfa_view_recovery_codes", "mfa_reauthenticate"):
        found += faults(page, reverse(name))
    found += faults(page, reverse("mfa_reauthenticate_webauthn"))
    found += faults(page, reverse("mfa_remove_webauthn", args=[key.pk]))
    log_out(page)
    log_in(page)
    expect(page.get_by_role("heading", name="Second factor")).to_be_visible()
    found += faults(page, reverse("mfa_authenticate"))
    assert not found, "\n".join(found)
