"""``python -m tests.pictures``: the pictures of the README, of real deployments on the demo's three SSH servers."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect, sync_playwright

from tests.parts.programs import program

HOUSE = Path(__file__).resolve().parent.parent
IMAGES = HOUSE / "docs" / "images"
WIDTH, HEIGHT = 1440, 900
#: Milliseconds that a page may take to show what is waited for.
PATIENCE = 60_000
SUBJECTS = ("Tell the total with tax", "Remember the cart of a visitor", "Answer health checks at once")
BROKEN = "Read the port from the configuration"


def main() -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "deployer.settings")
    os.environ["DEPLOYER_LANGUAGE"] = "en"
    import django

    with tempfile.TemporaryDirectory(prefix="deployer-pictures-") as folder:
        os.environ["DEPLOYER_DATA_DIR"] = f"{folder}/own"
        django.setup()
        from deployer.management.commands import demo
        from servers.processes import adopt_orphans

        adopt_orphans()
        demo.FOLDER = Path(folder) / "demo"
        demo.FOLDER.mkdir(mode=0o700)
        demo.LOG = demo.FOLDER / "demo.log"
        with demo.demo_site() as site, browser(site.url) as page:
            take_all(site, page)
    print(f"The pictures are in {IMAGES.relative_to(HOUSE)}/.")
    return 0


@contextmanager
def browser(url: str) -> Iterator[Page]:
    """A window without anything that moves; its addresses start at ``url``."""
    path = program("chromium", "chromium", "/usr/lib/chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = chromium.new_page(
            base_url=url,
            viewport={"width": WIDTH, "height": HEIGHT},
            color_scheme="light",
            reduced_motion="reduce",
            locale="en",
        )
        page.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        yield page
        chromium.close()


def take_all(site: Any, page: Page) -> None:
    """Deploy, fail and look, and take a picture of each page that the README shows."""
    declare(site)
    for project in ("shop-staging", "shop"):
        deploy(site, project)
    for subject in SUBJECTS:
        commit(site, subject, {"NEWS": f"{subject}\n"})
    deploy(site, "shop-staging")

    page.goto("/")
    page.get_by_label("User name").fill("admin")
    page.get_by_label("Password").fill(site.password)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_text("3 commits behind shop-staging")).to_be_visible()
    picture(page, "overview")

    page.get_by_role("link", name="Promote").click()
    page.get_by_text("Batches, pauses and failures").click()
    page.get_by_label("Batches", exact=True).fill("1, 100%")
    page.get_by_label("Pause after batches").fill("1")
    page.get_by_label("Pause after batches").press("Tab")
    page.get_by_text("Batches, pauses and failures").click()
    expect(page.locator("#launch-sentence")).to_contain_text("one after the other")
    expect(page.locator("#changes")).to_contain_text(SUBJECTS[0])
    page.get_by_label("Type “shop” to launch it").fill("shop")
    picture(page, "launch")

    page.get_by_role("button", name="Deploy", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Paused")
    picture(page, "deployment")
    page.get_by_role("link", name="Continue").click()
    page.get_by_role("dialog").get_by_role("button", name="Continue").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Success")

    commit(site, BROKEN, {"shop.py": "import configuration\n"})
    deploy(site, "shop", fails=True)
    page.goto("/deployments/")
    page.get_by_role("row", name="Failed").get_by_role("link").first.click()
    expect(page.locator("#log")).to_contain_text("configuration")
    picture(page, "failed")
    page.get_by_role("link", name="What has changed since it was good").first.click()
    expect(page.locator(".since-sentence")).to_be_visible()
    picture(page, "since")
    page.goto("/deployments/")
    picture(page, "history")


def declare(site: Any) -> None:
    """Two projects of the shop's repository: production on two of the servers, staging on the third."""
    import yaml

    path = site.write_yaml()
    declared = yaml.safe_load(path.read_text())
    (shop,) = declared["projects"]
    (group,) = declared["groups"]
    *production, last = group["servers"]
    declared["groups"] = [
        group | {"servers": production},
        {"name": "web-staging", "environment": "staging", "servers": [last]},
    ]
    staging = {"name": "shop-staging", "environment": "staging", "server_groups": ["web-staging"]}
    declared["projects"] = [shop, shop | staging]
    path.write_text(yaml.safe_dump(declared, sort_keys=False, allow_unicode=True))
    if site.manage("apply", str(path)):
        sys.exit("The projects of the pictures could not be made: see above.")


def deploy(site: Any, project: str, *, fails: bool = False) -> None:
    """Deploy its default branch and wait for the end, which is a failure where that is meant."""
    if bool(site.manage("deploy", project, "--wait")) is not fails:
        sys.exit(f"The deployment of {project} did not end as it should: see above.")


def commit(site: Any, subject: str, files: dict[str, str]) -> None:
    """Commit ``files`` to the shop's repository."""
    for name, text in files.items():
        (site.repository / name).write_text(text)
    author = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com")
    for arguments in (("add", "--all"), (*author, "commit", "--quiet", "--message", subject)):
        subprocess.run(["git", *arguments], cwd=site.repository, check=True)


def picture(page: Page, name: str) -> None:
    """Take what is in the window, from its top to the end of the page."""
    page.evaluate("window.scrollTo(0, 0)")
    page.wait_for_load_state("networkidle")
    end = page.locator("footer").bounding_box()
    height = min(HEIGHT, int(end["y"])) if end else HEIGHT
    clip: Any = {"x": 0, "y": 0, "width": WIDTH, "height": height}
    page.screenshot(path=IMAGES / f"{name}.png", animations="disabled", caret="hide", clip=clip)


if __name__ == "__main__":
    sys.exit(main())
