"""What package.json says: a site that is built into a folder, or an application that answers requests itself."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django.utils.translation import gettext as _

from projects.commands.build import automatic_install
from projects.guess.proposal import PATH, TELLING, WORD, Files, Guess, ServiceKind, Type, first, is_inside, with_shared

#: What makes a site of files, and the folder that it puts them into; the first that is asked for decides.
_SITES = {
    "@angular/core": "dist",
    "react-scripts": "build",
    "gatsby": "public",
    "@docusaurus/core": "build",
    "@sveltejs/kit": "build",
    "@react-router/dev": "build/client",
    "nuxt": ".output/public",
    "vitepress": ".vitepress/dist",
    "vuepress": ".vuepress/dist",
    "astro": "dist",
    "@11ty/eleventy": "_site",
    "hexo": "public",
    "@vue/cli-service": "dist",
    "ember-cli": "dist",
    "vite": "dist",
    "parcel": "dist",
    "webpack": "dist",
}
#: How a site is built that has no script for it.
_BUILDS = {"@11ty/eleventy": "npx @11ty/eleventy", "hexo": "npx hexo generate"}
#: A script that makes a site of texts, and the folder with them: the site lies in it.
_TEXTS = re.compile(rf"\b(vitepress|vuepress)(?:-vite|-webpack)? build(?:\Z| (?:\./)?({PATH}))")
#: A script's name that can stand in a command.
_SCRIPT = re.compile(r"[A-Za-z][\w:.-]*")
#: What answers requests itself.
_SERVERS = (
    "@angular/ssr",
    "next",
    "nuxt",
    "@nestjs/core",
    "@remix-run/serve",
    "@react-router/serve",
    "@strapi/strapi",
    "express",
    "fastify-cli",
    "fastify",
    "koa",
    "@hapi/hapi",
    "hono",
    "@adonisjs/core",
)
#: What turns a framework that makes sites into one that answers requests itself, and how that is started.
_ADAPTERS = {"@sveltejs/adapter-node": "node build", "@astrojs/node": "node dist/server/entry.mjs"}
#: How a framework is started in production, and its process.
_STARTS = {
    "next": ("", "next-server"),
    "nuxt": ("node .output/server/index.mjs", "node .output/server/index.mjs"),
    "@nestjs/core": ("node dist/main", "node dist/main"),
    "@remix-run/serve": ("", "remix-serve"),
    "@react-router/serve": ("", "react-router-serve"),
    "@strapi/strapi": ("", "strapi start"),
    "fastify-cli": ("", "fastify start"),
    **{name: (start, start) for name, start in _ADAPTERS.items()},
}
#: The file that is started where package.json names none.
_MAINS = ("server.js", "server.mjs", "app.js", "app.mjs", "index.js", "index.mjs", "main.js")
#: What is built by a script that may have any name.
_OF_TEXTS = ("vitepress", "vuepress")
#: Where a framework keeps what people upload, or its database.
_WRITES = {"@strapi/strapi": ("public/uploads/", ".tmp/")}
#: A script that serves files while somebody works on them: for production, the files are built.
_DEVELOPING = re.compile(
    r"\b(?:nx (?:run [\w-]+:)?serve|ng serve|vite(?: dev| serve)?\Z|vite --|webpack(?:-dev-server| serve)"
    r"|(?:react-scripts|docusaurus|vue-cli-service|gatsby|parcel) (?:start|serve|develop)|eleventy .*--serve"
    r"|(?:astro|next|nuxt) dev|hexo server|ember serve)"
)


def package_of(files: Files) -> dict[str, Any]:
    """The contents of package.json; empty if it is not valid."""
    return _json(files, "package.json")


def _json(files: Files, name: str) -> dict[str, Any]:
    try:
        document = json.loads(files.get(name, ""))
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _part(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    part = document.get(name)
    return part if isinstance(part, dict) else {}


def _needs(package: Mapping[str, Any]) -> dict[str, Any]:
    return _part(package, "dependencies") | _part(package, "devDependencies")


def serves(package: Mapping[str, Any]) -> str:
    """The framework by which a Node application answers requests itself; empty where it has none."""
    needs = _needs(package)
    return next((name for name in (*_ADAPTERS, *_SERVERS) if name in needs), "")


def _runner(files: Files) -> str:
    return "pnpm" if "pnpm-lock.yaml" in files else "yarn" if "yarn.lock" in files else "npm"


def node(files: Files) -> Guess | None:
    """The guess for a repository with a package.json."""
    if "package.json" not in files:
        return None
    if "nx.json" in files:
        return _workspace(files)
    package = package_of(files)
    scripts, server = _part(package, "scripts"), serves(package)
    build = f"{_runner(files)} run build" if "build" in scripts else ""
    needs = _needs(package)
    if not server and (texts := _site_of_texts(scripts)):
        script, site, folder = texts
        return _site(files, f"{_runner(files)} run {script}", site, f"{folder}/{_SITES[site]}".lstrip("/"))
    if exported := _exported(files, server, scripts):
        return _site(files, build, *exported)
    if server == "@angular/ssr":
        return _angular_server(files, build)
    if "@sveltejs/adapter-auto" in needs and not needs.keys() & {*_ADAPTERS, "@sveltejs/adapter-static"}:
        return _unadapted(build)
    if "@react-router/dev" in needs:
        server = server or "@react-router/dev"
    site = next((name for name in _SITES if name in needs and name not in _OF_TEXTS), "")
    is_for_work = bool(_DEVELOPING.search(str(scripts.get("start", ""))[:1000]))
    if site and not server and not build:
        build = _BUILDS.get(site, "")
    if build and not server and (site or is_for_work or "start" not in scripts):
        return _site(files, build, site, _output_folder(files, site))
    start, process = _start(files, package, server)
    why = _("package.json: an application on %s.") % server if server else _("package.json: a Node application.")
    found = Guess(
        Type.BACKEND, auto_install=True, build_script=build, process_name=process, start=start, reasons=(why,)
    )
    return _kept_by_pm2(files, with_shared(files, found, *_WRITES.get(server, ())))


def _kept_by_pm2(files: Files, found: Guess) -> Guess:
    """``found`` as an app of pm2, where the repository says how pm2 starts it."""
    file = next((name for name in ("ecosystem.config.js", "ecosystem.config.cjs") if name in files), "")
    names = re.findall(rf"\bname[\"']?\s*:\s*[\"']({WORD})[\"']", files.get(file, ""))
    if not names:
        return found
    reasons = [*found.reasons, _("%s: pm2 keeps it running, and restarts it without a script.") % file]
    if others := names[1:]:
        reasons.append(_("Other apps in it are services of the project, too: %s.") % ", ".join(others))
    return replace(found, service_kind=ServiceKind.PM2, service_name=names[0], reasons=tuple(reasons))


def _site_of_texts(scripts: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """The script that makes a site of texts, what makes it, and the folder with them; none where others are built."""
    for name in ["build"] if "build" in scripts else scripts:
        made = _TEXTS.search(str(scripts[name])[:1000])
        if made and _SCRIPT.fullmatch(name) and ".." not in (made[2] or "").split("/"):
            return name, made[1], (made[2] or "").strip("/")
    return None


def _exported(files: Files, server: str, scripts: Mapping[str, Any]) -> tuple[str, str] | None:
    """The framework and the folder where its configuration has files made instead of an application."""
    if server == "next" and re.search(r"""\boutput\s*:\s*["']export["']""", _texts(files, "next.config.")):
        return "next", "out"
    if server == "nuxt" and re.search(r"\bnux[ti] generate\b", str(scripts.get("build", ""))[:1000]):
        return "nuxt", _SITES["nuxt"]
    if server == "@angular/ssr" and re.search(r'"outputMode"\s*:\s*"static"', files.get("angular.json", "")):
        return "@angular/core", _output_folder(files, "@angular/core")
    routes = _texts(files, "react-router.config.")
    if server in {"", "@react-router/serve"} and re.search(r"^[^/\n]*\bssr\s*:\s*false", routes, re.MULTILINE):
        return "@react-router/dev", _SITES["@react-router/dev"]
    return None


def _angular_server(files: Files, build: str) -> Guess:
    """An application of Angular that makes its pages on the server: the builder puts both beside each other."""
    start = f"node {_output_folder(files, '@angular/core').removesuffix('/browser')}/server/server.mjs"
    reasons = (
        _("package.json: an application on %s.") % "@angular/ssr",
        _("It answers only the hosts that allowedHosts in angular.json names: the site's own has to be there."),
    )
    found = Guess(Type.BACKEND, auto_install=True, build_script=build, process_name=start, start=start, reasons=reasons)
    return with_shared(files, found)


def _unadapted(build: str) -> Guess:
    """An application of SvelteKit that is not made for any server yet: its build has to say so."""
    start, process = _STARTS["@sveltejs/adapter-node"]
    reasons = (
        _("package.json: an application on %s.") % "@sveltejs/kit",
        _(
            "@sveltejs/adapter-auto builds nothing that runs on your own server: put @sveltejs/adapter-node in its "
            "place, or @sveltejs/adapter-static for a site of files in the output folder “build”."
        ),
    )
    return Guess(
        Type.BACKEND,
        auto_install=True,
        build_script=f"{build}\nls build/index.js".lstrip(),
        process_name=process,
        start=start,
        reasons=reasons,
    )


def _site(files: Files, build: str, site: str, output: str) -> Guess:
    why = _("package.json: a site built by %s.") % site if site else _("package.json: a site that has to be built.")
    return Guess(Type.FRONTEND, auto_install=True, build_script=build, output_dir=output, reasons=(why,))


def _workspace(files: Files) -> Guess:
    """A workspace of Nx: what it builds by default. `nx serve` is for those who work on it."""
    package, scripts = package_of(files), _part(package_of(files), "scripts")
    told = first(
        rf"\bnx (?:run )?(?:serve|build) ({WORD})", f"{scripts.get('start', '')}\n{scripts.get('build', '')}"[:1000]
    )
    alone = first(rf"\A({WORD})\Z", str(_json(files, "project.json").get("name", "")))
    name = told or alone or first(rf"\A({WORD})\Z", str(_json(files, "nx.json").get("defaultProject", "")))
    build = f"npx nx build {name}" if name else "npx nx run-many -t build"
    folder = f"dist/{name}" if alone else f"dist/apps/{name}"
    if serves(package) and not any(site in _needs(package) for site in ("vite", "@angular/core", "react-dom")):
        start = f"node {folder}/main.js" if name else "npm start" if "start" in scripts else ""
        reasons = [_("nx.json: an application in a workspace of Nx.")]
        if not name:
            reasons.append(
                _("The top folder does not name it: Nx builds an application NAME into dist/apps/NAME; start it there.")
            )
        process = start if name else ""
        found = Guess(
            Type.BACKEND,
            auto_install=True,
            build_script=build,
            process_name=process,
            start=start,
            reasons=tuple(reasons),
        )
        return with_shared(files, found)
    output = _output_folder(files, "") if alone and _texts(files, "vite.config.") else folder
    why = _("nx.json: a site in a workspace of Nx; check its name and the folder that it is built into.")
    return Guess(Type.FRONTEND, auto_install=True, build_script=build, output_dir=output.rstrip("/"), reasons=(why,))


def _start(files: Files, package: Mapping[str, Any], server: str) -> tuple[str, str]:
    """The command that starts a Node application, and its process where that is known."""
    runner = _runner(files)
    if server in _STARTS:
        start, process = _STARTS[server]
        return start or f"{runner} start", process
    command = str(_part(package, "scripts").get("start", ""))[:1000]
    plain = first(rf"^(?:NODE_ENV=\w+ )?(node (?:\./)?{PATH})$", re.sub(r"^nodemon ", "node ", command))
    if plain:
        return plain, plain
    if command:
        return f"{runner} start", ""
    main = first(rf"^(?:\./)?({PATH})$", str(package.get("main", "")))
    main = main or next((name for name in _MAINS if name in files), "")
    return (f"node {main}", f"node {main}") if main else (f"{runner} start", "")


def _texts(files: Files, beginning: str) -> str:
    return "".join(files.get(name, "") for name in TELLING if name.startswith(beginning))


def _output_folder(files: Files, site: str) -> str:
    """The folder that a site is built into: as its configuration says, else the tool's own."""
    if site == "@angular/core":
        told = _angular_folder(files)
    else:
        told = first(rf"outDir\s*:\s*[\"'](?:\./)?({PATH})[\"']", _texts(files, "vite.config."))
    return told.rstrip("/") if is_inside(told) else _SITES.get(site, "dist")


def _angular_folder(files: Files) -> str:
    """Where the first application of angular.json is built into.

    The builder of 17 and later puts what a browser gets into a folder of its own, below dist/NAME unless told.
    """
    for name, project in _part(_json(files, "angular.json"), "projects").items():
        build = _part(_part(project if isinstance(project, dict) else {}, "architect"), "build")
        if not build:
            continue
        path, browser = _part(build, "options").get("outputPath"), ""
        if str(build.get("builder", "")).endswith(":application"):
            browser = "/browser"
        if isinstance(path, dict):
            browser = f"/{path.get('browser', 'browser')}".rstrip("/")
            path = path.get("base")
        return first(rf"\A({PATH})\Z", f"{path or f'dist/{name}'}{browser}")
    return first(rf'"outputPath"\s*:\s*"({PATH})"', files.get("angular.json", ""))


def with_assets(files: Files, found: Guess) -> Guess:
    """``found``, which also has a package.json: its scripts and styles are built beside it."""
    if "build" not in _part(package_of(files), "scripts"):
        return found
    scripts = [script for script in (found.install_script, automatic_install("frontend", files)) if script]
    return replace(
        found,
        install_script="\n".join(scripts),
        build_script="\n".join(filter(None, [f"{_runner(files)} run build", found.build_script])),
        reasons=(*found.reasons, _("package.json: its scripts and styles are built too.")),
    )
