"""What a repository is taken for, by the files of its top folder."""

import json
import subprocess
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from projects.guess import TELLING, Guess, example_script, guess, short_name, suggested_script
from projects.models import Project


def package(**parts) -> str:
    return json.dumps(parts)


def proposed(files: dict[str, str]) -> tuple[str, bool, str, str, str, str]:
    found = guess(files)
    return (
        str(found.project_type),
        found.auto_install,
        found.install_script,
        found.build_script,
        found.output_dir,
        found.process_name,
    )


BUILD = {"build": "whatever builds it"}
VITE = package(scripts=BUILD, devDependencies={"vite": "^5"}, dependencies={"vue": "3"})

#: Files, and the proposal: type, install by the lock file, install script, build script, output folder, process.
CASES = {
    "a site built by vite": ({"package.json": VITE}, ("frontend", True, "", "npm run build", "dist", "")),
    "the same by pnpm": (
        {"package.json": VITE, "pnpm-lock.yaml": ""},
        ("frontend", True, "", "pnpm run build", "dist", ""),
    ),
    "vite that is told another folder": (
        {"package.json": VITE, "vite.config.ts": "export default { build: { outDir: './public/out' } }"},
        ("frontend", True, "", "npm run build", "public/out", ""),
    ),
    "create-react-app, which has a start script": (
        {
            "package.json": package(
                scripts=BUILD | {"start": "react-scripts start"}, dependencies={"react-scripts": "5"}
            )
        },
        ("frontend", True, "", "npm run build", "build", ""),
    ),
    "angular": (
        {
            "package.json": package(scripts=BUILD | {"start": "ng serve"}, dependencies={"@angular/core": "17"}),
            "angular.json": '{"projects": {"a": {"options": {"outputPath": "dist/shop/browser"}}}}',
        },
        ("frontend", True, "", "npm run build", "dist/shop/browser", ""),
    ),
    "next answers requests itself": (
        {"package.json": package(scripts=BUILD | {"start": "next start"}, dependencies={"next": "14", "react": "18"})},
        ("backend", True, "", "npm run build", "", "next-server"),
    ),
    "express with a plain start": (
        {
            "package.json": package(
                scripts={"start": "NODE_ENV=production node server.js"}, dependencies={"express": "4"}
            )
        },
        ("backend", True, "", "", "", "node server.js"),
    ),
    "a start that is more than a plain command names no process": (
        {"package.json": package(scripts={"start": "node server.js; rm -rf /"}, dependencies={"express": "4"})},
        ("backend", True, "", "", "", ""),
    ),
    "maven with its wrapper": (
        {
            "pom.xml": "<project><parent><artifactId>boot</artifactId></parent><artifactId>shop</artifactId></project>",
            "mvnw": "",
        },
        ("java", True, "", "sh ./mvnw -B -q package -DskipTests", "target", "-jar shop"),
    ),
    "gradle, and a package.json beside it": (
        {"build.gradle.kts": "", "package.json": VITE},
        ("java", True, "", "gradle --no-daemon -q build -x test", "build/libs", ""),
    ),
    "django": (
        {"manage.py": 'os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")', "requirements.txt": "Django"},
        ("backend", False, "", "", "", "gunicorn shop.wsgi"),
    ),
    "django with scripts and styles": (
        {"manage.py": "", "package.json": VITE, "package-lock.json": ""},
        ("backend", False, "npm ci --no-audit --no-fund", "npm run build", "", ""),
    ),
    "fastapi in a pyproject": (
        {"pyproject.toml": 'dependencies = ["fastapi[standard]>=0.1"]', "app.py": ""},
        ("backend", False, "", "", "", "uvicorn app:app"),
    ),
    "a python script": (
        {"requirements.txt": "requests", "main.py": ""},
        ("backend", False, "", "", "", "python main.py"),
    ),
    "an express server with a requirements.txt for its documentation": (
        {"requirements.txt": "mkdocs", "package.json": package(main="./index.js", dependencies={"express": "4"})},
        ("backend", True, "", "", "", "node index.js"),
    ),
    "go": (
        {"go.mod": "module example.com/ops/shop/v2\n\ngo 1.22\n"},
        ("backend", False, "", "go build -o dist/shop .", "dist", "./shop"),
    ),
    "rust": (
        {"Cargo.toml": '[package]\nname = "shop"\n'},
        ("backend", False, "", "cargo build --release\nmkdir -p dist\ncp target/release/shop dist/", "dist", "./shop"),
    ),
    "rails": (
        {"Gemfile": 'source "https://rubygems.org"\ngem "rails", "~> 7"\n'},
        (
            "backend",
            False,
            "bundle config set --local path vendor/bundle\nbundle install",
            "bundle exec rails assets:precompile",
            "",
            "puma",
        ),
    ),
    "php": (
        {"composer.json": "{}"},
        ("backend", False, "composer install --no-dev --no-interaction --optimize-autoloader", "", "", ""),
    ),
    "dotnet": (
        {"Shop.Web.csproj": ""},
        ("backend", False, "", "dotnet publish -c Release -o dist", "dist", "Shop.Web.dll"),
    ),
    "files": ({"index.html": "", "style.css": ""}, ("frontend", False, "", "", "", "")),
    "a build script and nothing else": ({"build.sh": "", "shop.py": ""}, ("other", False, "", "bash build.sh", "", "")),
    "nothing that is known": ({"README.md": ""}, ("other", False, "", "", "", "")),
}


@pytest.mark.parametrize(("files", "proposal"), CASES.values(), ids=CASES)
def test_the_type_and_the_commands_are_those_of_the_files(files: dict[str, str], proposal: tuple[Any, ...]) -> None:
    assert proposed(files) == proposal
    assert guess(files).reasons


def test_a_script_that_comes_with_the_release_is_proposed_and_else_one_beside_the_releases() -> None:
    files = {"restart.sh": "", "index.html": ""}
    assert suggested_script(files, guess(files), "/srv/shop") == "restart.sh"
    built = files | {"package.json": VITE}
    assert suggested_script(built, guess(built), "/srv/shop") == "/srv/shop/restart.sh"  # only dist is released
    assert suggested_script({}, Guess(), "~/shop") == "~/shop/restart.sh"


@pytest.mark.parametrize("files", [files for files, _proposal in CASES.values()], ids=CASES)
def test_every_example_is_a_script_that_bash_understands(files: dict[str, str]) -> None:
    script = example_script(guess(files), "Web Shop; rm -rf /")
    done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "rm -rf" not in script


def test_a_name_that_no_path_can_hold_still_gives_one() -> None:
    assert [short_name(name) for name in ("Web Shop", "../../etc", "商店", "$(reboot)")] == [
        "web-shop",
        "etc",
        "app",
        "reboot",
    ]


HOSTILE = "$(touch /tmp/x); `id` ../../etc \"'\n\\"


@given(
    st.dictionaries(
        st.sampled_from([*TELLING, "mvnw", "a.csproj", "yarn.lock", "main.py"]), st.text() | st.just(HOSTILE)
    )
)
@example({"go.mod": "module a/$(id)\n"})
@example({"go.mod": "module " + "a." * 30_000 + "!"})
@example({"Gemfile": "\n" * 60_000 + "x"})
@example({"package.json": "[" * 60_000})
@example({"package.json": '{"scripts": {"build": 1, "start": ["a"]}, "dependencies": "express", "main": {}}'})
@example({"package.json": VITE, "vite.config.js": 'outDir: "../../../etc"'})
@example({"pom.xml": "<parent>" * 7_000})
@example({"manage.py": "DJANGO_SETTINGS_MODULE', '$(id).settings'"})
def test_whatever_a_repository_holds_the_proposal_is_one_that_the_project_takes(files: dict[str, str]) -> None:
    found = guess(files)
    Project(name="shop", deploy_path="/srv/shop", **found.fields()).clean_fields()
    said = "\n".join([found.build_script, found.install_script, found.start, found.process_name])
    assert not set("`;'\\|<>&") & set(said)
    assert "$(" not in said


@pytest.mark.parametrize(
    ("files", "seconds"),
    [
        ({"pom.xml": "<artifactId>shop</artifactId>"}, 15),
        ({"requirements.txt": "flask", "app.py": ""}, 8),
        ({"package.json": package(scripts={"start": "node server.js"})}, 5),
        ({"go.mod": "module example.com/shop"}, 3),
        ({"index.html": ""}, 1),
    ],
)
def test_an_application_is_watched_for_as_long_as_it_may_take_to_fail(files: dict[str, str], seconds: int) -> None:
    assert guess(files).watch_for == seconds
