"""Guesses from the files in a repository's top folder: its type, and how it is built, started, restarted.

It is only a proposal: the person who creates the project sees it and corrects it. Nothing here is run, and what a
repository says about itself gets into a command only where it is a plain word.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from django.utils.text import slugify
from django.utils.translation import gettext as _

from projects.commands.build import automatic_install
from projects.models import Project

#: The files whose content says more than their name.
TELLING = (
    "package.json",
    "angular.json",
    "vite.config.js",
    "vite.config.mjs",
    "vite.config.ts",
    "pom.xml",
    "manage.py",
    "pyproject.toml",
    "requirements.txt",
    "go.mod",
    "Cargo.toml",
    "Gemfile",
    "composer.json",
)
#: By file name, what is in it; empty for a file that was not read.
Files = Mapping[str, str]

_WORD = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_PATH = r"[A-Za-z0-9_][A-Za-z0-9_./-]*"
_Type = Project.ProjectType


@dataclass(frozen=True)
class Guess:
    """A proposal for a project's fields. ``start`` is how the example script starts it; ``reasons`` are sentences."""

    project_type: str = _Type.OTHER
    auto_install: bool = False
    install_script: str = ""
    build_script: str = ""
    output_dir: str = ""
    process_name: str = ""
    watch_for: int = 1
    start: str = ""
    reasons: tuple[str, ...] = ()

    def fields(self) -> dict[str, Any]:
        """The proposal by the names of a project's fields."""
        return {name: value for name, value in asdict(self).items() if name not in {"start", "reasons"}}


def guess(files: Files) -> Guess:
    """The first guess that fits a repository with these files in its top folder."""
    for look in (_java, _go, _rust, _python, _ruby, _php, _dotnet, _node, _static):
        found = look(files)
        if found is not None:
            return replace(found, watch_for=_worth_watching(found.process_name))
    return _unknown(files)


def _worth_watching(process_name: str) -> int:
    """Seconds after which such an application has shown whether it can start.

    gunicorn, and others in Python, try a port that is taken for five seconds before they end; a Java application may
    take longer to find out that it lacks something.
    """
    program = process_name.partition(" ")[0]
    known = {"": 1, "-jar": 15, "gunicorn": 8, "uvicorn": 8, "python": 8, "puma": 8, "node": 5, "next-server": 5}
    return known.get(program, 3)


def suggested_script(files: Files, found: Guess, deploy_path: str) -> str:
    """Where the restart script lies: in the release where the repository brings one, else beside the releases."""
    return "restart.sh" if "restart.sh" in files and not found.output_dir else f"{deploy_path}/restart.sh"


def short_name(name: str) -> str:
    """A project's name as a part of paths and file names."""
    return slugify(name) or "app"


def example_script(found: Guess, name: str) -> str:
    """A restart script to begin with, for a project that has none."""
    head = (
        "#!/usr/bin/env bash\n"
        f"# Restarts {short_name(name)}, on every server, in full and in restart-only deployments.\n"
        "set -euo pipefail\n"
    )
    if found.project_type == _Type.FRONTEND:
        return (
            f"{head}# The web server serves $DEPLOY_PATH/current: no process has to be replaced.\n"
            'echo "live: $(readlink "$DEPLOY_PATH/current")"\n'
            "# sudo systemctl reload nginx\n"
        )
    if found.start.startswith("sudo systemctl "):
        return f"{head}{found.start}\n"
    unit = short_name(name)
    start = found.start or "./YOUR-PROGRAM"
    lines = [
        f"# With a systemd unit, this is all:  sudo systemctl restart {unit}",
        'cd "$DEPLOY_PATH/current"',
        *_python_environment(start),
        f'pid_file="$DEPLOY_PATH/shared/{unit}.pid"',
        'if [ -s "$pid_file" ] && kill "$(cat "$pid_file")" 2>/dev/null; then',
        '    for _ in $(seq 100); do kill -0 "$(cat "$pid_file")" 2>/dev/null || break; sleep 0.1; done',
        "fi",
        f'nohup {start} >>"$DEPLOY_PATH/shared/{unit}.log" 2>&1 </dev/null &',
        'echo $! >"$pid_file"',
    ]
    return head + "\n".join(lines) + "\n"


#: How an application says in a header which release it is, by a word of the command that starts it.
_SAYS = {
    "java": 'response.setHeader("X-Release", System.getenv("DEPLOY_RELEASE"));',
    "gunicorn": 'response.headers["X-Release"] = os.environ["DEPLOY_RELEASE"]',
    "uvicorn": 'response.headers["X-Release"] = os.environ["DEPLOY_RELEASE"]',
    "python": 'response.headers["X-Release"] = os.environ["DEPLOY_RELEASE"]',
    "bundle": 'response.set_header("X-Release", ENV["DEPLOY_RELEASE"])',
    "dotnet": 'context.Response.Headers["X-Release"] = Environment.GetEnvironmentVariable("DEPLOY_RELEASE");',
    "node": 'response.setHeader("X-Release", process.env.DEPLOY_RELEASE);',
    "start": 'response.setHeader("X-Release", process.env.DEPLOY_RELEASE);',
}


def example_header(found: Guess) -> str:
    """How the application can say its release, in a line of its own language or of its web server's configuration."""
    if found.project_type == _Type.FRONTEND or found.start.startswith("sudo systemctl reload "):
        return "add_header X-Release $realpath_root always;  # nginx, where root is in current"
    words = re.findall(r"[a-z]+", found.start)
    return next((line for word, line in _SAYS.items() if word in words), "X-Release: $DEPLOY_RELEASE")


def _python_environment(start: str) -> list[str]:
    """The lines that give a Python application its packages on the server; none for others."""
    if not start.startswith('"$DEPLOY_PATH/shared/venv/bin/'):
        return []
    return [
        '[ -d "$DEPLOY_PATH/shared/venv" ] || python3 -m venv "$DEPLOY_PATH/shared/venv"',
        'if [ -e requirements.txt ]; then "$DEPLOY_PATH/shared/venv/bin/pip" install -q -r requirements.txt; '
        'else "$DEPLOY_PATH/shared/venv/bin/pip" install -q .; fi',
    ]


# --- one language each -----------------------------------------------------------------------------


def _java(files: Files) -> Guess | None:
    if "pom.xml" in files:
        maven = "sh ./mvnw" if "mvnw" in files else "mvn"
        pom = re.sub(r"<parent>(?:(?!</?parent>).)*+</parent>", "", files["pom.xml"], flags=re.DOTALL)
        named = _first(rf"<finalName>({_WORD})</finalName>", pom) or _first(rf"<artifactId>({_WORD})</artifactId>", pom)
        return Guess(
            _Type.JAVA,
            auto_install=True,
            build_script=f"{maven} -B -q package -DskipTests",
            output_dir="target",
            process_name=f"-jar {named}" if named else "",
            start=f"java -jar {named}*.jar" if named else "java -jar *.jar",
            reasons=(_("pom.xml: built by Maven; the jar is in target."),),
        )
    gradle = next((name for name in ("build.gradle", "build.gradle.kts") if name in files), "")
    if not gradle:
        return None
    return Guess(
        _Type.JAVA,
        auto_install=True,
        build_script=f"{'sh ./gradlew' if 'gradlew' in files else 'gradle'} --no-daemon -q build -x test",
        output_dir="build/libs",
        start="java -jar *.jar",
        reasons=(_("%s: built by Gradle; the jar is in build/libs.") % gradle,),
    )


def _go(files: Files) -> Guess | None:
    if "go.mod" not in files:
        return None
    module = re.sub(r"/v[0-9]+$", "", _first(r"^module\s+(\S+)", files["go.mod"], re.MULTILINE))
    name = _first(rf"\A({_WORD})\Z", module.rpartition("/")[2]) or "app"
    return Guess(
        _Type.BACKEND,
        build_script=f"go build -o dist/{name} .",
        output_dir="dist",
        process_name=f"./{name}",
        start=f"./{name}",
        reasons=(_("go.mod: a Go program; only the file that the build makes is released."),),
    )


def _rust(files: Files) -> Guess | None:
    if "Cargo.toml" not in files:
        return None
    name = _first(rf'^name\s*=\s*"({_WORD})"', files["Cargo.toml"], re.MULTILINE) or "app"
    return Guess(
        _Type.BACKEND,
        build_script=f"cargo build --release\nmkdir -p dist\ncp target/release/{name} dist/",
        output_dir="dist",
        process_name=f"./{name}",
        start=f"./{name}",
        reasons=(_("Cargo.toml: a Rust program; only the file that the build makes is released."),),
    )


def _python(files: Files) -> Guess | None:
    listed = files.get("requirements.txt", "") + "\n" + files.get("pyproject.toml", "")
    sure = "manage.py" in files or "pyproject.toml" in files
    if not (sure or ("requirements.txt" in files and not _serves(_package(files)))):
        return None
    told = next(name for name in ("manage.py", "pyproject.toml", "requirements.txt") if name in files)
    start, process = _python_start(files, listed)
    found = Guess(
        _Type.BACKEND,
        process_name=process,
        start=start,
        reasons=(
            _("%s: a Python application.") % told,
            _(
                "Its packages are installed on the servers by the restart script: an environment made elsewhere "
                "would not work there."
            ),
        ),
    )
    return _with_assets(files, found)


def _python_start(files: Files, listed: str) -> tuple[str, str]:
    """The command that starts a Python application in an environment of its own, and its process."""
    venv = '"$DEPLOY_PATH/shared/venv/bin/'
    settings = _first(rf"DJANGO_SETTINGS_MODULE[\"']\s*,\s*[\"']({_WORD})", files.get("manage.py", "")).split(".")[0]
    main = next((name for name in ("main.py", "app.py", "server.py", "run.py") if name in files), "")
    module = main.removesuffix(".py") or "main"
    if settings:
        return f'{venv}gunicorn" {settings}.wsgi', f"gunicorn {settings}.wsgi"
    if _asks_for("uvicorn", listed) or _asks_for("fastapi", listed):
        return f'{venv}uvicorn" {module}:app', f"uvicorn {module}:app"
    if _asks_for("gunicorn", listed) or _asks_for("flask", listed):
        return f'{venv}gunicorn" {module}:app', f"gunicorn {module}:app"
    return f'{venv}python" {main or "main.py"}', f"python {main}" if main else ""


def _asks_for(package: str, listed: str) -> bool:
    """Whether a list of requirements, of either kind, names a package."""
    return re.search(rf"(?im)(?:^|[\s\"'\[,]){package}(?![\w-])", listed) is not None


def _ruby(files: Files) -> Guess | None:
    if "Gemfile" not in files:
        return None
    rails = re.search(r"^[ \t]*gem[ \t]+[\"']rails[\"']", files["Gemfile"], re.MULTILINE) is not None
    found = Guess(
        _Type.BACKEND,
        install_script="bundle config set --local path vendor/bundle\nbundle install",
        build_script="bundle exec rails assets:precompile" if rails else "",
        process_name="puma" if rails else "",
        start="bundle exec puma",
        reasons=(
            _("Gemfile: a Rails application; its gems are released with it.")
            if rails
            else _("Gemfile: a Ruby application; its gems are released with it."),
        ),
    )
    return _with_assets(files, found)


def _php(files: Files) -> Guess | None:
    if "composer.json" not in files:
        return None
    found = Guess(
        _Type.BACKEND,
        install_script="composer install --no-dev --no-interaction --optimize-autoloader",
        start="sudo systemctl reload php-fpm",
        reasons=(_("composer.json: a PHP application; its packages are released with it."),),
    )
    return _with_assets(files, found)


def _dotnet(files: Files) -> Guess | None:
    project = next((name for name in sorted(files) if re.fullmatch(rf"{_WORD}\.(?:csproj|fsproj|sln)", name)), "")
    if not project:
        return None
    name = project.rpartition(".")[0]
    return Guess(
        _Type.BACKEND,
        build_script="dotnet publish -c Release -o dist",
        output_dir="dist",
        process_name=f"{name}.dll",
        start=f"dotnet {name}.dll",
        reasons=(_("%s: a .NET application.") % project,),
    )


#: What makes a site of files, and the folder that it puts them into; the first that is asked for decides.
_SITES = {
    "@angular/core": "dist",
    "react-scripts": "build",
    "gatsby": "public",
    "@docusaurus/core": "build",
    "@sveltejs/kit": "build",
    "vitepress": ".vitepress/dist",
    "astro": "dist",
    "@vue/cli-service": "dist",
    "vite": "dist",
    "parcel": "dist",
    "webpack": "dist",
}
#: What answers requests itself.
_SERVERS = ("next", "nuxt", "@nestjs/core", "express", "fastify", "koa", "@hapi/hapi", "hono", "@adonisjs/core")


def _package(files: Files) -> dict[str, Any]:
    """The contents of package.json; empty if it is not valid."""
    try:
        document = json.loads(files.get("package.json", ""))
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _part(package: Mapping[str, Any], name: str) -> dict[str, Any]:
    part = package.get(name)
    return part if isinstance(part, dict) else {}


def _needs(package: Mapping[str, Any]) -> dict[str, Any]:
    return _part(package, "dependencies") | _part(package, "devDependencies")


def _serves(package: Mapping[str, Any]) -> str:
    """The framework by which a Node application answers requests itself; empty where it has none."""
    return next((name for name in _SERVERS if name in _needs(package)), "")


def _runner(files: Files) -> str:
    return "pnpm" if "pnpm-lock.yaml" in files else "yarn" if "yarn.lock" in files else "npm"


def _node(files: Files) -> Guess | None:
    if "package.json" not in files:
        return None
    package = _package(files)
    scripts, needs, server = _part(package, "scripts"), _needs(package), _serves(package)
    build = f"{_runner(files)} run build" if "build" in scripts else ""
    site = next((name for name in _SITES if name in needs), "")
    if build and not server and (site or "start" not in scripts):
        why = _("package.json: a site built by %s.") % site if site else _("package.json: a site that has to be built.")
        output = _output_folder(files, site)
        return Guess(_Type.FRONTEND, auto_install=True, build_script=build, output_dir=output, reasons=(why,))
    start, process = _node_start(package, server, _runner(files))
    why = _("package.json: an application on %s.") % server if server else _("package.json: a Node application.")
    return Guess(
        _Type.BACKEND, auto_install=True, build_script=build, process_name=process, start=start, reasons=(why,)
    )


def _node_start(package: Mapping[str, Any], server: str, runner: str) -> tuple[str, str]:
    """The command that starts a Node application, and its process where that is known."""
    known = {"next": "next-server", "nuxt": "node .output/server/index.mjs", "@nestjs/core": "node dist/main"}
    if server == "next":
        return f"{runner} start", known[server]
    if server in known:
        return known[server], known[server]
    command = str(_part(package, "scripts").get("start", ""))
    plain = _first(rf"^(?:NODE_ENV=\w+ )?(node {_PATH})$", command)
    if plain:
        return plain, plain
    if command:
        return f"{runner} start", ""
    main = _first(rf"^(?:\./)?({_PATH})$", str(package.get("main", "")))
    return (f"node {main}", f"node {main}") if main else (f"{runner} start", "")


def _output_folder(files: Files, site: str) -> str:
    """The folder that a site is built into: as its configuration says, else the tool's own."""
    if site == "@angular/core":
        told = _first(rf'"outputPath"\s*:\s*"({_PATH})"', files.get("angular.json", ""))
    else:
        configuration = "".join(files.get(name, "") for name in TELLING if name.startswith("vite.config"))
        told = _first(rf"outDir\s*:\s*[\"'](?:\./)?({_PATH})[\"']", configuration)
    inside = told and ".." not in told.split("/")
    return told.rstrip("/") if inside else _SITES.get(site, "dist")


def _with_assets(files: Files, found: Guess) -> Guess:
    """``found``, which also has a package.json: its scripts and styles are built beside it."""
    if "build" not in _part(_package(files), "scripts"):
        return found
    scripts = [script for script in (found.install_script, automatic_install("frontend", files)) if script]
    return replace(
        found,
        install_script="\n".join(scripts),
        build_script="\n".join(filter(None, [f"{_runner(files)} run build", found.build_script])),
        reasons=(*found.reasons, _("package.json: its scripts and styles are built too.")),
    )


def _static(files: Files) -> Guess | None:
    if "index.html" not in files:
        return None
    return Guess(_Type.FRONTEND, reasons=(_("index.html: a static site, released as it is."),))


def _unknown(files: Files) -> Guess:
    """An unknown kind of project; a script or a Makefile may still say how it is built."""
    commands = {"build.sh": "bash build.sh", "Makefile": "make"}
    name = next((name for name in commands if name in files), "")
    if name:
        reason = _("%s: the project seems to be built with it.") % name
        return Guess(build_script=commands[name], reasons=(reason,))
    return Guess(reasons=(_("The top folder does not show what kind of project it is: fill in what is needed."),))


def _first(pattern: str, text: str, flags: int = 0) -> str:
    """The first match of the pattern's one group; empty if there is none."""
    match = re.search(pattern, text, flags)
    return match[1] if match else ""
