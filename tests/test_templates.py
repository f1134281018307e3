"""Templates can be read, and what they name is there: icons, scripts, style sheets."""

import re
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.staticfiles import finders
from django.template import Context, Template
from django.test import Client

from deployer.models import Deployment, Target
from tests.factories import make_user
from tests.site import LEAD_ELSEWHERE, PAGES, World, address_of

pytestmark = pytest.mark.any_database

FOLDER = Path(settings.BASE_DIR) / "pages" / "templates"
TEMPLATES = sorted(FOLDER.rglob("*.html"))
LONGEST = 160
ICONS = set(re.findall(r'<symbol id="(\w+)"', (Path(settings.BASE_DIR) / "pages" / "static" / "icons.svg").read_text()))


def _all_text() -> str:
    return "".join(path.read_text() for path in TEMPLATES)


def _icons_of_statuses() -> set[str]:
    template = Template("{% load deployments %}{{ status|status_icon }}")
    statuses = {*Deployment.Status.values, *Target.Status.values}
    return {template.render(Context({"status": status})) for status in statuses}


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_no_line_of_a_template_is_too_long_to_be_read(path: Path) -> None:
    lines = enumerate(path.read_text().splitlines(), start=1)
    long = [f"{path.relative_to(FOLDER)}:{number} has {len(line)}" for number, line in lines if len(line) > LONGEST]
    assert not long, f"more than {LONGEST} characters: {', '.join(long)}"


def test_every_icon_that_a_template_names_is_drawn_and_none_is_left_over() -> None:
    named = set(re.findall(r'"_icon\.html" with name="(\w+)"', _all_text()))
    assert named | _icons_of_statuses() == ICONS


@pytest.mark.django_db
def test_every_icon_on_every_page_is_drawn() -> None:
    client, world, shown = Client(), World(), set()
    client.force_login(make_user())
    for name in set(PAGES) - LEAD_ELSEWHERE:
        page = b"".join(client.get(address_of(name, world))).decode()
        shown |= set(re.findall(r'<use href="[^"#]*icons\.svg#([^"]*)"', page))
    assert shown
    assert shown <= ICONS


def test_every_file_that_a_template_loads_is_there_and_every_script_is_loaded() -> None:
    loaded = set(re.findall(r"""{% static ["']([^"']+)["'] %}""", _all_text()))
    assert not [name for name in loaded if not finders.find(name)]
    scripts = {path.name for path in (Path(settings.BASE_DIR) / "pages" / "static").glob("*.js")}
    assert scripts <= loaded
