"""A person reads the site in another language than the browser's."""

import re

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from tests.factories import make_deployment, make_group, make_project, make_server, make_user


@pytest.mark.django_db(transaction=True)
def test_the_language_is_switched_by_one_click_and_kept(page: Page) -> None:
    make_user("ada", "correct horse battery")
    it = make_deployment(make_project(name="Shop"), make_group(make_server(name="web-1")))
    it.claim_for_worker()

    page.goto(reverse("deployment", args=[it.pk]))
    page.get_by_role("button", name="简体中文").click()
    expect(page.locator("html")).to_have_attribute("lang", "zh-hans")
    page.get_by_label("用户名").fill("ada")
    page.get_by_label("密码").fill("correct horse battery")
    page.get_by_role("button", name="登录").click()

    expect(page).to_have_url(re.compile(reverse("deployment", args=[it.pk]) + "$"))
    expect(page.get_by_role("heading", level=1)).to_contain_text("克隆中")
    expect(page.locator("[data-since]").first).to_have_text(
        re.compile(r"^[1-9]\d* 秒$")
    )  # the script counts in Chinese
    page.get_by_role("link", name="总览").click()
    expect(page.get_by_role("heading", name="正在进行")).to_be_visible()

    page.get_by_role("button", name="English").focus()
    page.keyboard.press("Enter")
    expect(page.locator("html")).to_have_attribute("lang", "en")
    expect(page.get_by_role("heading", name="Running now")).to_be_visible()
