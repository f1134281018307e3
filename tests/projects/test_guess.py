"""What a repository is taken for, by the files of its top folder."""

import json
import subprocess
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from projects.guess.examples import example_header, example_script, pid_file
from projects.guess.guessing import guess, suggested_script
from projects.guess.proposal import TELLING, Guess, short_name
from projects.models import Project
from projects.ready_steps import READY_STEPS


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
            "RAILS_ENV=production SECRET_KEY_BASE=1 bundle exec rails assets:precompile",
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
    "eleventy, whose start script serves files to whoever works on them": (
        {"package.json": package(scripts={"start": "eleventy --serve"}, devDependencies={"@11ty/eleventy": "^3"})},
        ("frontend", True, "", "npx @11ty/eleventy", "_site", ""),
    ),
    "nx, one application": (
        {
            "package.json": package(
                scripts={"start": "nx serve", "build": "nx build"}, dependencies={"react-dom": "19"}
            ),
            "nx.json": package(defaultProject="shop"),
            "project.json": package(name="shop"),
            "vite.config.mts": "build: { outDir: './dist/shop' }",
        },
        ("frontend", True, "", "npx nx build shop", "dist/shop", ""),
    ),
    "nx, several applications": (
        {
            "package.json": package(scripts={"start": "nx serve api"}, dependencies={"@nestjs/core": "11"}),
            "nx.json": "{}",
            "apps": "",
        },
        ("backend", True, "", "npx nx build api", "", "node dist/apps/api/main.js"),
    ),
    "angular 19": (
        {
            "package.json": package(scripts=BUILD | {"start": "ng serve"}, dependencies={"@angular/core": "^19"}),
            "angular.json": package(
                projects={
                    "shop": {
                        "architect": {
                            "build": {
                                "builder": "@angular-devkit/build-angular:application",
                                "options": {"outputPath": "dist/shop"},
                            }
                        }
                    }
                }
            ),
        },
        ("frontend", True, "", "npm run build", "dist/shop/browser", ""),
    ),
    "angular 20, which names no folder": (
        {
            "package.json": package(scripts=BUILD | {"start": "ng serve"}, dependencies={"@angular/core": "^20"}),
            "angular.json": package(
                projects={"shop": {"architect": {"build": {"builder": "@angular/build:application", "options": {}}}}}
            ),
        },
        ("frontend", True, "", "npm run build", "dist/shop/browser", ""),
    ),
    "next that is exported": (
        {
            "package.json": package(scripts=BUILD | {"start": "next start"}, dependencies={"next": "16"}),
            "next.config.mjs": "export default { output: 'export' }",
        },
        ("frontend", True, "", "npm run build", "out", ""),
    ),
    "svelte with a server": (
        {
            "package.json": package(
                scripts=BUILD, devDependencies={"@sveltejs/kit": "^2", "@sveltejs/adapter-node": "^5", "vite": "^8"}
            )
        },
        ("backend", True, "", "npm run build", "", "node build"),
    ),
    "react router": (
        {
            "package.json": package(
                scripts=BUILD | {"start": "react-router-serve ./build/server/index.js"},
                dependencies={"@react-router/serve": "7"},
                devDependencies={"vite": "^8"},
            )
        },
        ("backend", True, "", "npm run build", "", "react-router-serve"),
    ),
    "docusaurus": (
        {
            "package.json": package(
                scripts=BUILD | {"start": "docusaurus start"}, dependencies={"@docusaurus/core": "3"}
            )
        },
        ("frontend", True, "", "npm run build", "build", ""),
    ),
    "express that is started again at each change": (
        {"package.json": package(scripts={"start": "nodemon server.js"}, dependencies={"express": "5"})},
        ("backend", True, "", "", "", "node server.js"),
    ),
    "spring boot by gradle": (
        {"build.gradle": "plugins { id 'org.springframework.boot' }", "settings.gradle": "rootProject.name = 'shop'"},
        ("java", True, "", "gradle --no-daemon -q bootJar", "build/libs", "-jar shop"),
    ),
    "go with its programs in cmd": (
        {"go.mod": "module example.com/shop\n", "cmd": "", "internal": ""},
        ("backend", False, "", "go build -o dist/ ./cmd/...", "dist", "./shop"),
    ),
    "fastapi in a package": (
        {"requirements.txt": "fastapi", "app": ""},
        ("backend", False, "", "", "", "uvicorn app.main:app"),
    ),
    "jekyll": (
        {"Gemfile": 'gem "jekyll"', "_config.yml": ""},
        (
            "frontend",
            False,
            "bundle config set --local path vendor/bundle\nbundle install",
            "bundle exec jekyll build",
            "_site",
            "",
        ),
    ),
    "hugo": ({"hugo.toml": ""}, ("frontend", False, "", "hugo --minify", "public", "")),
    "mkdocs": (
        {"mkdocs.yml": "", "requirements.txt": "mkdocs-material"},
        (
            "frontend",
            False,
            "python3 -m venv .venv\n.venv/bin/pip install -q -r requirements.txt",
            ".venv/bin/mkdocs build",
            "site",
            "",
        ),
    ),
    "files": ({"index.html": "", "style.css": ""}, ("frontend", False, "", "", "", "")),
    "a build script and nothing else": ({"build.sh": "", "shop.py": ""}, ("other", False, "", "bash build.sh", "", "")),
    "nothing that is known": ({"README.md": ""}, ("other", False, "", "", "", "")),
}


@pytest.mark.parametrize(("files", "proposal"), CASES.values(), ids=CASES)
def test_the_type_and_the_commands_are_those_of_the_files(files: dict[str, str], proposal: tuple[Any, ...]) -> None:
    assert proposed(files) == proposal
    assert guess(files).reasons


@pytest.mark.parametrize(
    ("files", "shared"),
    [
        ({"manage.py": "", "requirements.txt": "Django", ".gitignore": "*.pyc\n/media/\n"}, "db.sqlite3\nmedia/"),
        ({"manage.py": "", "requirements.txt": "Django\npsycopg[binary]", ".env.example": ""}, ".env"),
        ({"composer.json": '{"require": {"laravel/framework": "^12"}}', ".env.example": ""}, "storage/\n.env"),
        ({"composer.json": '{"require": {"symfony/framework-bundle": "7"}}'}, "var/log/\nvar/sessions/\n.env.local"),
        ({"Gemfile": "gem 'rails'", ".gitignore": "/log/*\n/storage/*\nnode_modules"}, "log/\nstorage/\ntmp/pids/"),
        ({"package.json": package(dependencies={"express": "5"}), ".gitignore": "node_modules\nuploads"}, "uploads/"),
        ({"package.json": package(dependencies={"express": "5"}), ".gitignore": "$(id)\n../data\n"}, ""),
        ({"go.mod": "module a/b", ".gitignore": "data/"}, ""),  # one file is released, and its folder is not written to
        ({"package.json": VITE, ".gitignore": "uploads", ".env.example": ""}, ""),
    ],
)
def test_what_an_application_writes_is_kept_between_releases(files: dict[str, str], shared: str) -> None:
    found = guess(files)
    assert found.shared_paths == shared
    assert not shared or ", ".join(shared.split()) in found.reasons[-1]


def test_php_is_reloaded_by_the_unit_that_the_machine_has() -> None:
    script = example_script(guess({"composer.json": "{}"}), "shop")
    answer = "systemctl() { case $1 in list-units) echo 'php8.2-fpm.service loaded active';; *) echo \"$*\";; esac; }\n"
    stand_in = answer + 'sudo() { "$@"; }\n'
    done = subprocess.run(["bash"], input=stand_in + script, text=True, capture_output=True, check=True)
    assert done.stdout == "reload php8.2-fpm.service\n"


def test_a_script_that_comes_with_the_release_is_proposed_and_else_one_only_where_none_can_be_kept() -> None:
    files = {"restart.sh": "", "index.html": ""}
    assert suggested_script(files, guess(files), "/srv/shop") == "restart.sh"
    built = files | {"package.json": VITE}
    assert suggested_script(built, guess(built), "/srv/shop") == ""  # only dist is released; the example is kept
    django = CASES["django"][0]
    assert suggested_script(django, guess(django), "/srv/shop") == ""
    assert suggested_script({}, Guess(), "~/shop") == "~/shop/restart.sh"  # nothing says how it is started


def test_the_pid_file_is_the_one_that_the_example_writes() -> None:
    found = guess(CASES["django"][0])
    assert pid_file(found, "Web shop", "/srv/shop") == "/srv/shop/shared/web-shop.pid"
    assert 'pid_file="$DEPLOY_PATH/shared/web-shop.pid"' in example_script(found, "Web shop")
    for files in ({"composer.json": "{}"}, {"index.html": ""}, {}):
        assert pid_file(guess(files), "shop", "/srv/shop") == "", "the example starts no process"


ECOSYSTEM = "module.exports = { apps: [{ name: 'shop', script: 'server.js' }, { name: 'worker', script: 'w.js' }] }"


@pytest.mark.parametrize("file", ["ecosystem.config.js", "ecosystem.config.cjs"])
def test_what_pm2_keeps_is_an_app_of_pm2(file: str) -> None:
    files = {"package.json": package(dependencies={"express": "4"}, main="server.js"), file: ECOSYSTEM}
    found = guess(files)
    assert (found.service_kind, found.service_name) == ("pm2", "shop")
    assert found.reasons[-1] == "Other apps in it are services of the project, too: worker."
    assert suggested_script(files, found, "/srv/shop") == pid_file(found, "shop", "/srv/shop") == ""
    assert guess(files | {file: "module.exports = { apps: apps() }"}).service_kind == "process"


@pytest.mark.parametrize(
    ("requirements", "steps"),
    [
        ("Django\ngunicorn", ("virtualenv", "django")),
        ("Django\nwhitenoise==6.9", ("virtualenv", "django", "django-static")),
    ],
)
def test_django_is_proposed_with_its_steps(requirements: str, steps: tuple[str, ...]) -> None:
    assert guess(CASES["django"][0] | {"requirements.txt": requirements}).ready_steps == steps
    assert {*steps} <= {ready.key for ready in READY_STEPS}


@pytest.mark.parametrize("files", [files for files, _proposal in CASES.values()], ids=CASES)
def test_every_example_is_a_script_that_bash_understands(files: dict[str, str]) -> None:
    script = example_script(guess(files), "Web Shop; rm -rf /")
    done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "rm -rf" not in script


@pytest.mark.parametrize(
    ("files", "line"),
    [
        ("django", 'response.headers["X-Release"] = os.environ["DEPLOY_RELEASE"]'),
        ("go", "X-Release: $DEPLOY_RELEASE"),
        ("maven with its wrapper", 'response.setHeader("X-Release", System.getenv("DEPLOY_RELEASE"));'),
    ],
)
def test_an_example_says_the_release_in_the_language_of_the_application(files: str, line: str) -> None:
    assert example_header(guess(CASES[files][0])) == line


@pytest.mark.parametrize("files", [files for files, _proposal in CASES.values()], ids=CASES)
def test_every_application_has_an_example_of_how_it_says_its_release(files: dict[str, str]) -> None:
    line = example_header(guess(files))
    assert "X-Release" in line
    assert "DEPLOY_RELEASE" in line or "$realpath_root" in line


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
        ({"requirements.txt": "streamlit"}, 8),
        ({"package.json": package(scripts={"start": "node server.js"})}, 5),
        ({"go.mod": "module example.com/shop"}, 3),
        ({"index.html": ""}, 1),
    ],
)
def test_an_application_is_watched_for_as_long_as_it_may_take_to_fail(files: dict[str, str], seconds: int) -> None:
    assert guess(files).watch_for == seconds
