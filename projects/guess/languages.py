"""Guesses by the languages that are not JavaScript, and by generators of sites written in them."""

import re

from django.utils.translation import gettext as _

from projects.guess.examples import PHP_RELOAD
from projects.guess.node import package_of, serves, with_assets
from projects.guess.proposal import WORD, Files, Guess, Type, first, with_shared


def _java(files: Files) -> Guess | None:
    if "pom.xml" in files:
        maven = "sh ./mvnw" if "mvnw" in files else "mvn"
        pom = re.sub(r"<parent>(?:[^<]++|<(?!/?parent>))*</parent>", "", files["pom.xml"])
        named = first(rf"<finalName>({WORD})</finalName>", pom) or first(rf"<artifactId>({WORD})</artifactId>", pom)
        return Guess(
            Type.JAVA,
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
    # Spring Boot's plugin would make a jar without its libraries beside the one that starts.
    makes = "bootJar" if "org.springframework.boot" in files[gradle] else "build -x test"
    settings = files.get("settings.gradle", "") + files.get("settings.gradle.kts", "")
    named = first(rf"rootProject\.name\s*=\s*[\"']({WORD})[\"']", settings)
    return Guess(
        Type.JAVA,
        auto_install=True,
        build_script=f"{'sh ./gradlew' if 'gradlew' in files else 'gradle'} --no-daemon -q {makes}",
        output_dir="build/libs",
        process_name=f"-jar {named}" if named else "",
        start=f"java -jar {named}*.jar" if named else "java -jar *.jar",
        reasons=(_("%s: built by Gradle; the jar is in build/libs.") % gradle,),
    )


def _go(files: Files) -> Guess | None:
    if "go.mod" not in files:
        return None
    module = re.sub(r"/v[0-9]+$", "", first(r"^module\s+(\S+)", files["go.mod"], re.MULTILINE))
    name = first(rf"\A({WORD})\Z", module.rpartition("/")[2]) or "app"
    if "cmd" in files and not any(each.endswith(".go") for each in files):
        build, reason = "go build -o dist/ ./cmd/...", _("go.mod: Go programs; only what is built of cmd is released.")
    else:
        build = f"go build -o dist/{name} ."
        reason = _("go.mod: a Go program; only the file that the build makes is released.")
    return Guess(
        Type.BACKEND,
        build_script=build,
        output_dir="dist",
        process_name=f"./{name}",
        start=f"./{name}",
        reasons=(reason,),
    )


def _rust(files: Files) -> Guess | None:
    if "Cargo.toml" not in files:
        return None
    name = first(rf'^name\s*=\s*"({WORD})"', files["Cargo.toml"], re.MULTILINE) or "app"
    return Guess(
        Type.BACKEND,
        build_script=f"cargo build --release\nmkdir -p dist\ncp target/release/{name} dist/",
        output_dir="dist",
        process_name=f"./{name}",
        start=f"./{name}",
        reasons=(_("Cargo.toml: a Rust program; only the file that the build makes is released."),),
    )


def _python(files: Files) -> Guess | None:
    listed = files.get("requirements.txt", "") + "\n" + files.get("pyproject.toml", "")
    sure = "manage.py" in files or "pyproject.toml" in files
    if not (sure or ("requirements.txt" in files and not serves(package_of(files)))):
        return None
    told = next(name for name in ("manage.py", "pyproject.toml", "requirements.txt") if name in files)
    start, process = _python_start(files, listed)
    reasons = [
        _("%s: a Python application.") % told,
        _(
            "Its packages are installed on the servers, in an environment of each release: one made elsewhere would "
            "not work there."
        ),
    ]
    shared = []
    if "manage.py" in files and not _DATABASES.search(listed):
        shared.append("db.sqlite3")
        reasons.append(
            _(
                "Nothing that it requires speaks to a database server: with SQLite in its folder, each release would "
                "begin with an empty database. SQLite takes an empty file for one: touch db.sqlite3."
            )
        )
    steps = ["virtualenv"]
    if "manage.py" in files:
        steps.append("django")
        reasons.append(_("manage.py: the database is migrated once, before the first server is switched."))
        if _asks_for("whitenoise", listed):  # it serves what was collected
            steps.append("django-static")
    found = Guess(Type.BACKEND, process_name=process, start=start, ready_steps=tuple(steps), reasons=tuple(reasons))
    return with_assets(files, with_shared(files, found, *shared))


#: What speaks to a database server, or reads its address from a variable.
_DATABASES = re.compile(
    r"(?i)psycopg|mysqlclient|pymysql|oracledb|cx_oracle|mssql|dj-database-url|django-environ|mongo"
)


def _python_start(files: Files, listed: str) -> tuple[str, str]:
    """The command that starts a Python application in an environment of its own, and its process."""
    venv = ".venv/bin/"
    settings = first(rf"DJANGO_SETTINGS_MODULE[\"']\s*,\s*[\"']({WORD})", files.get("manage.py", "")).split(".")[0]
    main = next(
        (name for name in ("main.py", "wsgi.py", "asgi.py", "app.py", "server.py", "run.py") if name in files), ""
    )
    package = "app.main" if "app" in files and not main else "main"
    module = main.removesuffix(".py") or package
    if settings:
        return f"{venv}gunicorn {settings}.wsgi", f"gunicorn {settings}.wsgi"
    if _asks_for("streamlit", listed):
        page = main if main and "streamlit_app.py" not in files else "streamlit_app.py"
        return f"{venv}streamlit run {page} --server.headless true", f"streamlit run {page}"
    if _asks_for("uvicorn", listed) or _asks_for("fastapi", listed):
        return f"{venv}uvicorn {module}:app", f"uvicorn {module}:app"
    if _asks_for("gunicorn", listed) or _asks_for("flask", listed):
        named = first(r"^name\s*=\s*[\"'](\w[\w-]*)[\"']", files.get("pyproject.toml", ""), re.MULTILINE | re.ASCII)
        factory = named.replace("-", "_")
        if not main and factory in files:  # a package, as Flask's tutorial makes one
            return f'{venv}gunicorn "{factory}:create_app()"', f"gunicorn {factory}:create_app()"
        module = module if main else "app"
        return f"{venv}gunicorn {module}:app", f"gunicorn {module}:app"
    return f"{venv}python {main or 'main.py'}", f"python {main}" if main else ""


def _asks_for(package: str, listed: str) -> bool:
    """Whether a list of requirements, of either kind, names a package."""
    return re.search(rf"(?im)(?:^|[\s\"'\[,]){package}(?![\w-])", listed) is not None


def _ruby(files: Files) -> Guess | None:
    if "Gemfile" not in files:
        return None
    install = "bundle config set --local path vendor/bundle\nbundle install"
    if "_config.yml" in files or _has_gem("jekyll", files):
        return Guess(
            Type.FRONTEND,
            install_script=install,
            build_script="bundle exec jekyll build",
            output_dir="_site",
            reasons=(_("Gemfile: a site built by %s.") % "Jekyll",),
        )
    rails = _has_gem("rails", files)
    found = Guess(
        Type.BACKEND,
        install_script=install,
        build_script=_RAILS_BUILD if rails else "",
        process_name="puma" if rails else "",
        start="env RAILS_ENV=production bundle exec puma" if rails else "bundle exec puma",
        reasons=(
            _("Gemfile: a Rails application; its gems are released with it.")
            if rails
            else _("Gemfile: a Ruby application; its gems are released with it."),
        ),
    )
    return with_assets(files, with_shared(files, found, *(_rails_writes(files) if rails else ())))


#: Without a secret of any kind Rails makes no scripts and styles; what this one signs is used nowhere.
_RAILS_BUILD = "RAILS_ENV=production SECRET_KEY_BASE=1 bundle exec rails assets:precompile"


def _rails_writes(files: Files) -> list[str]:
    """What Rails writes to, and its key: a new release has neither."""
    written = ["log/", "storage/", "tmp/pids/"]
    version = first(r"^[ \t]*gem[ \t]+[\"']rails[\"'][^\n]*?([0-9]+(?:\.[0-9]+)?)", files["Gemfile"], re.MULTILINE)
    if _has_gem("sqlite3", files) and version and float(version) < _SQLITE_IN_STORAGE:
        written.append("db/production.sqlite3")
    keys = {line.strip().lstrip("/") for line in files.get(".gitignore", "").splitlines()}
    return [*written, "config/master.key"] if keys & {"config/master.key", "config/*.key"} else written


#: The version of Rails from which on its database lies in storage/.
_SQLITE_IN_STORAGE = 7.1


def _has_gem(name: str, files: Files) -> bool:
    return re.search(rf"^[ \t]*gem[ \t]+[\"']{name}[\"']", files["Gemfile"], re.MULTILINE) is not None


#: By the package that composer.json asks for, what such an application writes to or reads from outside its release.
_PHP_SHARED = {
    "laravel/framework": ("storage/", ".env"),
    "symfony/framework-bundle": ("var/log/", "var/sessions/", ".env.local"),
    "johnpbloch/wordpress": ("wp-content/uploads/", "wp-config.php"),
    "roots/wordpress": ("web/app/uploads/", ".env"),
    "drupal/core-recommended": ("web/sites/default/files/", "web/sites/default/settings.php"),
}


def _php(files: Files) -> Guess | None:
    if "composer.json" not in files:
        return None
    asked = files["composer.json"]
    install = "composer install --no-dev --no-interaction --optimize-autoloader"
    if '"symfony/framework-bundle"' in asked:  # else what runs at its end looks for packages of those who work on it
        install = f"APP_ENV=prod {install}"
    found = Guess(
        Type.BACKEND,
        install_script=install,
        start=PHP_RELOAD,
        reasons=(_("composer.json: a PHP application; its packages are released with it."),),
    )
    shared = next((paths for name, paths in _PHP_SHARED.items() if f'"{name}"' in asked), ())
    if "database/database.sqlite" in asked:  # Laravel's starter makes this file by a script
        shared = (*shared, "database/database.sqlite")
    return with_assets(files, with_shared(files, found, *shared))


def _dotnet(files: Files) -> Guess | None:
    project = next((name for name in sorted(files) if re.fullmatch(rf"{WORD}\.(?:csproj|fsproj|sln)", name)), "")
    if not project:
        return None
    name = project.rpartition(".")[0]
    return Guess(
        Type.BACKEND,
        build_script="dotnet publish -c Release -o dist",
        output_dir="dist",
        process_name=f"{name}.dll",
        start=f"dotnet {name}.dll",
        reasons=(_("%s: a .NET application.") % project,),
    )


#: Generators of sites by the file that configures them: how it is called, what builds the site, and where it then is.
_GENERATORS = {
    "hugo.toml": ("Hugo", "hugo --minify", "public"),
    "hugo.yaml": ("Hugo", "hugo --minify", "public"),
    "hugo.json": ("Hugo", "hugo --minify", "public"),
    "mkdocs.yml": ("MkDocs", "mkdocs build", "site"),
    "book.toml": ("mdBook", "mdbook build", "book"),
}
#: Those by names that others use too.
_HUGO = {f"config.{kind}": _GENERATORS[f"hugo.{kind}"] for kind in ("toml", "yaml", "json")}
_AMBIGUOUS = {**_HUGO, "_config.yml": ("Jekyll", "jekyll build", "_site")}


def _generated(files: Files) -> Guess | None:
    """A site that a program other than Node makes of texts."""
    name = next((name for name in _GENERATORS if name in files), "")
    if not name and "archetypes" in files:  # how Hugo was configured before 0.110, and still may be
        name = next((name for name in _HUGO if name in files), "")
    if not name and "_config.yml" in files and {"_posts", "_layouts"} & {*files}:
        name = "" if {"Gemfile", "package.json"} & {*files} else "_config.yml"
    if not name:
        return None
    called, build, folder = (_GENERATORS | _AMBIGUOUS)[name]
    install = ""
    if called == "MkDocs":  # an environment beside the site: what is installed for it is not released
        needed = "-r requirements.txt" if "requirements.txt" in files else "mkdocs"
        install, build = f"python3 -m venv .venv\n.venv/bin/pip install -q {needed}", f".venv/bin/{build}"
    reason = _("%(file)s: a site built by %(program)s.") % {"file": name, "program": called}
    return Guess(Type.FRONTEND, install_script=install, build_script=build, output_dir=folder, reasons=(reason,))


#: The guesses in their order: what a repository has besides its own language, such as a package.json, comes later.
LANGUAGES = (_java, _go, _rust, _generated, _python, _ruby, _php, _dotnet)
