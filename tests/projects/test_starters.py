"""Small projects of common frameworks are recognised, with commands that were run on them from a clean checkout.

`starters.json` has of each the names in its top folder, what manifests and settings say, and the proposal. Its starter
made it, or it was written by hand after the framework's documentation, where the starter fetches a template.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from projects.guess.examples import example_script
from projects.guess.guessing import guess

STARTERS: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("starters.json").read_text())


def files_of(starter: str) -> dict[str, str]:
    told = STARTERS[starter]
    names: list[str] = told["names"]
    files: dict[str, str] = told["files"]
    return dict.fromkeys(names, "") | files


@pytest.mark.parametrize("starter", STARTERS)
def test_a_starter_of_a_framework_is_proposed_as_it_was_built_and_started(starter: str) -> None:
    found = guess(files_of(starter))
    fields = found.fields() | {"start": found.start, "ready_steps": [*found.ready_steps]}
    assert fields.pop("service_kind") == "process"
    assert {name: value for name, value in fields.items() if value and name != "watch_for"} == STARTERS[starter][
        "proposal"
    ]


@pytest.mark.parametrize("starter", ["flask-app", "flask-factory", "fastapi-single", "django"])
def test_a_python_application_gets_the_server_that_its_requirements_leave_out(starter: str) -> None:
    found = guess(files_of(starter))
    program = found.start.split()[0].rpartition("/")[2]
    assert f"|| .venv/bin/pip install -q {program}\n" in example_script(found, "shop")


def test_an_application_without_an_adapter_is_told_of_one() -> None:
    found = guess(files_of("svelte"))
    assert "@sveltejs/adapter-node" in found.reasons[-1]
    assert found.build_script.endswith("\nls build/index.js")  # the build fails, not the restart


def test_a_site_that_is_exported_is_no_application() -> None:
    nuxt = files_of("nuxt")
    nuxt["package.json"] = nuxt["package.json"].replace('"build": "nuxt build"', '"build": "nuxt generate"')
    angular = files_of("angular-ssr")
    angular["angular.json"] = angular["angular.json"].replace('"outputMode": "server"', '"outputMode": "static"')
    assert [guess(each).output_dir for each in (nuxt, angular)] == [".output/public", "dist/angular-ssr/browser"]


def test_texts_beside_an_application_or_a_library_are_not_what_is_released() -> None:
    scripts = {"build": "vite build", "docs:build": "vitepress build docs"}
    library = {"package.json": json.dumps({"scripts": scripts, "devDependencies": {"vite": "8", "vitepress": "1"}})}
    server = {"package.json": json.dumps({"scripts": {"docs:build": "vuepress build"}, "dependencies": {"koa": "3"}})}
    outside = {"package.json": json.dumps({"scripts": {"docs:build": "vitepress build docs/../.."}})}
    assert guess(library).output_dir == "dist"
    assert guess(server).output_dir == guess(outside).output_dir == ""


@pytest.mark.parametrize(
    ("files", "build", "folder"),
    [
        ({"config.toml": "", "archetypes": ""}, "hugo --minify", "public"),
        ({"config.toml": "", "src": ""}, "", ""),
        ({"_config.yml": "", "_posts": ""}, "jekyll build", "_site"),
        ({"_config.yml": "", "README.md": ""}, "", ""),
    ],
)
def test_a_generator_is_known_by_more_than_a_name_that_others_use_too(
    files: dict[str, str], build: str, folder: str
) -> None:
    found = guess(files)
    assert (found.build_script, found.output_dir) == (build, folder)


@pytest.mark.parametrize(
    ("gem", "shared"),
    [("~> 6.1.7", True), ("~> 7.0.8", True), (">= 7.1", False), ("~> 8.0", False)],
)
def test_the_database_of_rails_is_where_its_version_puts_it(gem: str, shared: bool) -> None:
    files = {"Gemfile": f'gem "rails", "{gem}"\ngem "sqlite3"\n', ".gitignore": "/config/*.key\n"}
    found = guess(files).shared_paths.split("\n")
    assert ("db/production.sqlite3" in found, "config/master.key" in found) == (shared, True)


def test_files_that_an_application_cannot_make_itself_are_told_apart_from_folders() -> None:
    found = guess({"composer.json": '{"require": {"laravel/framework": "^12"}, "x": "database/database.sqlite"}'})
    assert found.shared_paths == "storage/\n.env\ndatabase/database.sqlite"
    assert found.reasons[-2].startswith(".env, database/database.sqlite: put in shared/")


def test_symfony_installs_as_it_will_run() -> None:
    found = guess({"composer.json": '{"require": {"symfony/framework-bundle": "7"}}'})
    assert found.install_script.startswith("APP_ENV=prod composer install --no-dev ")
