"""A person looks after the servers from the browser: tests the way to them, replaces a key, imports them."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from servers.keys import fingerprint
from servers.models import Credential, Server, ServerGroup
from servers.ssh.shell import connect
from tests.deployer.test_on_server import deployed, on_disk
from tests.factories import make_credential, make_group, make_server, make_user
from tests.parts.person import PASSWORD, log_in
from tests.parts.sshd import OpenSSHServer

pytestmark = pytest.mark.django_db(transaction=True)

MakeSshd = Callable[..., OpenSSHServer]


def open_page(page: Page, address: str) -> None:
    """Open ``address`` as somebody who may do everything."""
    make_user("ada", PASSWORD)
    log_in(page, address, "ada")
    expect(page.locator("h1")).to_be_visible()


def test_a_connection_is_tested_step_by_step_through_its_jump_host(page: Page, make_sshd: MakeSshd) -> None:
    door, inner = make_sshd(), make_sshd()
    server = make_server(inner, name="inner", jump_host=make_server(door, name="door"))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if request.method == "POST" else None)
    open_page(page, reverse("server", args=[server.pk]))
    asked.clear()
    page.get_by_role("button", name="Test connection").click()
    steps = page.locator("#steps > .step")
    expect(steps).to_have_count(10)
    expect(steps.nth(0)).to_contain_text(f"127.0.0.1:{door.port} was reached")
    expect(steps.nth(3)).to_contain_text("Logged in as")
    expect(steps.nth(6)).to_contain_text("The host key is now pinned")
    expect(steps.nth(8)).to_contain_text("Connected to inner as")
    expect(steps.nth(9)).to_contain_text("bash, tar, gzip")
    lefts = steps.evaluate_all("steps => steps.map((step) => Math.round(step.getBoundingClientRect().left))")
    assert len(set(lefts)) == 1  # one below the other
    expect(page.locator(".step-running")).to_have_count(0)
    expect(page.locator("h1")).to_contain_text("Online")
    expect(page.locator("#pinned")).to_have_text(fingerprint(inner.host_key))
    assert len(asked) == 6  # the button, then each stage asks for the next


def test_a_wrong_password_ends_the_test_with_why_and_what_to_do(page: Page, sshd: OpenSSHServer) -> None:
    wrong = make_credential(name="old login", username=sshd.username, kind=Credential.Kind.PASSWORD, password="wrong")
    server = make_server(sshd, credential=wrong)
    open_page(page, reverse("server", args=[server.pk]))
    page.get_by_role("button", name="Test connection").click()
    failed = page.locator(".step-failed")
    expect(failed).to_contain_text("refused the login")
    expect(failed).to_contain_text("old login")
    expect(failed).to_contain_text("What to do: Put the public key into")
    expect(page.locator("#steps > .step")).to_have_count(4)
    expect(page.locator("h1")).to_contain_text("Offline")


def test_a_changed_host_key_is_compared_and_replaced_and_the_server_is_online_again(
    page: Page, make_sshd: MakeSshd
) -> None:
    sshd = make_sshd()
    server = make_server(sshd, name="web-1")
    connect(server).close()
    old = fingerprint(server.host_key)
    sshd.change_host_key()
    new = fingerprint(sshd.host_key)

    open_page(page, reverse("server", args=[server.pk]))
    page.get_by_role("button", name="Test connection").click()
    expect(page.locator(".step-failed")).to_contain_text(new)
    page.get_by_role("link", name="Compare both keys").click()
    expect(page.get_by_role("region", name="Pinned here")).to_contain_text(old)
    expect(page.get_by_role("region", name="Shown by the server now")).to_contain_text(new)
    expect(page.get_by_role("alert")).to_contain_text("It is a different key.")

    page.get_by_role("button", name="Replace the pinned key").click()  # not before it was compared
    expect(page.get_by_role("heading", level=1)).to_contain_text("Host key of")
    page.get_by_label(f"It prints {new}").check()
    page.get_by_role("button", name="Replace the pinned key").click()
    expect(page.get_by_role("status")).to_contain_text("The key is pinned")
    expect(page.locator("#pinned")).to_have_text(new)
    page.get_by_role("button", name="Test connection").click()
    expect(page.locator("h1")).to_contain_text("Online")


def test_all_servers_of_a_list_are_tested_row_by_row(page: Page, sshd: OpenSSHServer) -> None:
    credential = make_credential(sshd)
    servers = [make_server(sshd, name=f"web-{number}", credential=credential) for number in range(6)]
    make_group(*servers, make_server(name="cache-1", host="127.0.0.1", port=1), name="web")
    make_server(sshd, name="db-1")
    open_page(page, reverse("servers"))
    page.get_by_role("combobox", name="Group").select_option("web")
    expect(page.get_by_role("row")).to_have_count(8)
    page.get_by_role("button", name="Test all 7 shown").click()
    expect(page.locator(".connection-online")).to_have_count(6)
    expect(page.get_by_role("row", name=re.compile("cache-1"))).to_contain_text("Connection refused")
    page.get_by_role("link", name="Show all").click()
    expect(page.get_by_role("row", name=re.compile("db-1"))).to_contain_text("Untested")
    page.get_by_role("link", name=re.compile("Online")).click()
    expect(page.get_by_role("row")).to_have_count(7)


def test_servers_are_imported_from_an_openssh_config_and_answer(page: Page, make_sshd: MakeSshd) -> None:
    door, inner = make_sshd(), make_sshd()
    make_credential(door, name="door key")
    make_credential(inner, name="inner key")
    config = f"""
Host *
  User {door.username}
Host door
  HostName 127.0.0.1
  Port {door.port}
  IdentityFile ~/.ssh/door
Host inner
  HostName 127.0.0.1
  Port {inner.port}
  ProxyJump door
  IdentityFile ~/.ssh/inner
Include more
"""
    open_page(page, reverse("server_import"))
    page.get_by_label("Or its text").fill(config)
    page.get_by_role("button", name="Show what is in it").click()
    expect(page.get_by_role("note")).to_contain_text("is not followed")
    expect(page.get_by_role("row", name=re.compile("inner"))).to_contain_text("through door")
    assert not Server.objects.exists()
    page.get_by_role("button", name="Import the ticked ones").click()
    expect(page.get_by_role("status")).to_contain_text("2 new servers")
    page.get_by_role("link", name="inner", exact=True).click()
    page.get_by_role("button", name="Test connection").click()
    expect(page.locator("h1")).to_contain_text("Online")


def test_groups_are_imported_from_an_ansible_inventory_file_with_what_is_ticked(page: Page) -> None:
    deploy = make_credential(name="deploy key", username="deploy")
    make_credential(name="other", username="ops")
    make_server(name="web-1", host="192.0.2.1", credential=deploy)
    inventory = """
[prod_web]
web-[1:3] ansible_user=deploy
[cache]
cache-1
win ansible_connection=winrm
"""
    open_page(page, reverse("server_import"))
    page.get_by_text("Ansible inventory").click()
    page.get_by_label("File").set_input_files(
        {"name": "hosts.ini", "mimeType": "text/plain", "buffer": inventory.encode()}
    )
    page.get_by_role("button", name="Show what is in it").click()
    expect(page.get_by_role("row", name=re.compile("web-1.*would change"))).to_contain_text("192.0.2.1")
    expect(page.get_by_role("row", name=re.compile("^win"))).to_contain_text("not reached over SSH")
    every = page.get_by_role("checkbox", name="Tick all servers that are new")
    every.uncheck()
    expect(page.get_by_role("checkbox", name="web-2")).not_to_be_checked()
    every.check()
    page.get_by_role("checkbox", name="web-3").uncheck()

    page.get_by_role("button", name="Import the ticked ones").click()
    expect(page.get_by_role("alert")).to_contain_text("Choose a credential")
    expect(page.get_by_role("checkbox", name="web-3")).not_to_be_checked()
    page.get_by_label("no user named").select_option("other (ops)")
    page.get_by_role("button", name="Import the ticked ones").click()
    expect(page.get_by_role("status")).to_contain_text("2 new servers")

    groups = {group.name: group for group in ServerGroup.objects.all()}
    assert groups["prod_web"].environment == "production"
    assert [str(server) for server in groups["prod_web"].servers.all()] == ["web-1", "web-2"]
    assert [str(server) for server in groups["cache"].servers.all()] == ["cache-1"]
    assert Server.objects.get(name="web-1").host == "192.0.2.1"
    assert Server.objects.get(name="cache-1").credential.name == "other"


def test_a_first_server_is_added_with_a_credential_and_a_group(page: Page, sshd: OpenSSHServer) -> None:
    open_page(page, reverse("servers"))
    page.get_by_role("link", name="Add a server").first.click()
    page.get_by_role("link", name="Add a credential first").click()
    page.get_by_label("Name", exact=True).fill("web key")
    page.get_by_label("User name").fill(sshd.username)
    page.get_by_label("Private key").fill(sshd.private_key)
    expect(page.locator("#id_password")).to_be_hidden()
    page.get_by_label("Servers want a password too").check()
    expect(page.locator("#id_password")).to_be_visible()
    page.get_by_label("Servers want a password too").uncheck()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_contain_text("web key is saved.")

    page.get_by_role("link", name="Groups").click()
    page.get_by_role("link", name="Add a group").first.click()
    page.get_by_label("Name").fill("web")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("link", name="Add a new one").click()
    page.get_by_label("Name", exact=True).fill("web-1")
    page.get_by_label("Host", exact=True).fill(sshd.host)
    page.get_by_label("Port").fill(str(sshd.port))
    page.get_by_label("Credential").select_option(index=1)
    expect(page.get_by_role("checkbox", name=re.compile("web"))).to_be_checked()
    page.get_by_role("button", name="Save").click()
    page.get_by_role("button", name="Test connection").click()
    expect(page.locator("h1")).to_contain_text("Online")
    assert [str(server) for server in ServerGroup.objects.get().servers.all()] == ["web-1"]


def test_the_releases_on_a_disk_are_looked_at_by_a_button(page: Page, sshd: OpenSSHServer, tmp_path: Path) -> None:
    server = make_server(sshd, name="web-1")
    deployed(server, tmp_path / "shop", name="shop")
    on_disk(tmp_path / "shop")
    open_page(page, reverse("server", args=[server.pk]))
    here = page.locator("#here")
    expect(here.locator("tbody tr")).to_have_count(1)
    here.get_by_role("button", name="Look at the releases on its disk").click()
    releases = here.get_by_role("list", name="Releases of shop on its disk").get_by_role("listitem")
    expect(releases).to_have_count(4)
    expect(releases.nth(1)).to_contain_text("live")
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
