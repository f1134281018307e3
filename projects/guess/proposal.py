"""The proposal for a new project, and how files are read for it.

The person who creates the project sees it and corrects it. What a repository says about itself gets into a command only
where it is a plain word.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from django.utils.text import slugify
from django.utils.translation import gettext as _

from projects.models import Project

#: The files whose content says more than their name.
TELLING = (
    ".gitattributes",
    ".gitignore",
    "package.json",
    "ecosystem.config.cjs",
    "ecosystem.config.js",
    "angular.json",
    "nx.json",
    "project.json",
    "next.config.js",
    "next.config.mjs",
    "next.config.ts",
    "react-router.config.js",
    "react-router.config.ts",
    "svelte.config.js",
    "svelte.config.ts",
    "vite.config.js",
    "vite.config.mjs",
    "vite.config.mts",
    "vite.config.ts",
    "pom.xml",
    "build.gradle",
    "build.gradle.kts",
    "settings.gradle",
    "settings.gradle.kts",
    "manage.py",
    "pyproject.toml",
    "requirements.txt",
    "go.mod",
    "Cargo.toml",
    "Gemfile",
    "composer.json",
)
#: By file name, what is in it; empty for a folder, and for a file that was not read.
Files = Mapping[str, str]

WORD = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
PATH = r"[A-Za-z0-9_][A-Za-z0-9_./-]*"
Type, ServiceKind = Project.ProjectType, Project.ServiceKind


@dataclass(frozen=True)
class Guess:
    """A proposal for a project's fields. ``start`` is how the example script starts it; ``reasons`` are sentences.

    ``ready_steps`` are keys of steps to pick from.
    """

    project_type: str = Type.OTHER
    auto_install: bool = False
    install_script: str = ""
    build_script: str = ""
    output_dir: str = ""
    shared_paths: str = ""
    process_name: str = ""
    service_kind: str = ServiceKind.PROCESS
    service_name: str = ""
    ready_steps: tuple[str, ...] = ()
    watch_for: int = 1
    submodules: bool = False
    lfs: bool = False
    start: str = ""
    reasons: tuple[str, ...] = ()

    def fields(self) -> dict[str, Any]:
        """The proposal by the names of a project's fields."""
        return {name: value for name, value in asdict(self).items() if name not in {"start", "reasons", "ready_steps"}}


def short_name(name: str) -> str:
    """A project's name as a part of paths and file names."""
    return slugify(name) or "app"


def first(pattern: str, text: str, flags: int = 0) -> str:
    """The first match of the pattern's one group; empty if there is none."""
    match = re.search(pattern, text, flags)
    return match[1] if match else ""


def is_inside(path: str) -> bool:
    """Whether a relative path that a repository gives stays below the repository."""
    return bool(path) and ".." not in path.split("/")


#: What applications write beside their code, as repositories leave it out; with "/" at the end what is a folder.
_WRITTEN = (
    "db.sqlite3",
    "media/",
    "uploads/",
    "public/uploads/",
    "static/uploads/",
    "storage/",
    "instance/",
    "data/",
    "log/",
    "logs/",
)
#: The examples beside which the real file with an application's settings is made by hand.
_EXAMPLES = (".env.example", ".env.sample", ".env.dist", ".env.template")


def with_shared(files: Files, found: Guess, *known: str) -> Guess:
    """``found`` with the paths to share: those its framework is ``known`` to write to, and those that git ignores.

    A folder of built files alone holds nothing that an application could have written.
    """
    if found.output_dir or found.project_type == Type.FRONTEND:
        return found
    ignored = {line.strip().strip("/") for line in files.get(".gitignore", "").splitlines()}
    written = [path for path in _WRITTEN if path.strip("/") in ignored]
    settings = [".env"] if any(name in files for name in _EXAMPLES) else []
    shared = list(dict.fromkeys([*known, *written, *settings]))
    shared = [path for path in shared if not any(path != above and path.startswith(above) for above in shared)]
    if not shared:
        return found
    reasons = list(found.reasons)
    if to_make := [path for path in shared if not path.endswith("/")]:
        reasons.append(
            _("%s: put in shared/ on each server before the first deployment, if the repository has none.")
            % ", ".join(to_make)
        )
    reason = _("%s: kept between releases, because the application writes there.") % ", ".join(shared)
    return replace(found, shared_paths="\n".join(shared), reasons=(*reasons, reason))
