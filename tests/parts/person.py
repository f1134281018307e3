"""Somebody in front of the browser."""

from playwright.sync_api import Page

PASSWORD = "correct horse battery"


def log_in(page: Page, address: str, username: str, password: str = PASSWORD) -> None:
    """Open ``address``, and log in by the form that comes first."""
    page.goto(address)
    page.get_by_label("User name").fill(username)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()
