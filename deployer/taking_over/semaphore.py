"""Semaphore: the backup of a project, as its settings page downloads it (JSON), as sections of YAML.

===============  =====================================================================================================
keys             credentials of the servers and repositories that use them; the backup has no secret and no user name
inventories      static ones: servers and groups; those in files of a repository stay there
repositories     the git address and the branch of the projects that use them
environments     variables of the projects that use them; extra variables of Ansible that are one text or number, too
templates        a project each; of an application of bash or Python its script is the build, one of type build is the
                 build of those that deploy it. Playbooks and Terraform are told, not taken over
survey_vars      variables that are asked for at launch
schedules        schedules of the projects, paused; those that launch something else than the project does are told
integrations     webhooks of GitHub, where they launch what was pushed to the branch of the project; the others are told
===============  =====================================================================================================
"""

import json
from collections.abc import Callable, Iterator
from shlex import quote
from typing import Any
from zoneinfo import ZoneInfo

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer.taking_over.taken import NotReadableError, Taken, environment_of, text_of
from projects.cron import moment_of, problem_of_cron
from projects.validators import validate_ref, validate_time_zone
from servers.imports import ansible
from servers.imports.listing import Found, UnreadableListingError, check_size, visible
from servers.models import Environment

Row = dict[str, Any]

#: Lists of a backup whose entries are told by name: what they are, why they stay.
_LEFT = {
    "views": (gettext_lazy("View “%s”"), gettext_lazy("there is nothing like it here.")),
    "runners": (gettext_lazy("Runner “%s”"), gettext_lazy("workers run on deployer's own machine.")),
    "roles": (gettext_lazy("Role “%s”"), gettext_lazy("grant roles to users and teams here.")),
    "secret_storages": (gettext_lazy("Secret storage “%s”"), gettext_lazy("name sources of values in the settings.")),
    "workflows": (gettext_lazy("Workflow “%s”"), gettext_lazy("there is nothing like it here.")),
    "host_configs": (gettext_lazy("Credential mapping “%s”"), gettext_lazy("credentials have hosts of their own.")),
}
_KNOWN = frozenset(
    {"meta", "templates", "repositories", "keys", "inventories", "environments", "integration_aliases"}
    | {"schedules", "integrations"}
)
#: What stands for a pattern of cron, and what says its time zone.
_SPELLED = {
    **dict.fromkeys(("@yearly", "@annually"), "0 0 1 1 *"),
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    **dict.fromkeys(("@daily", "@midnight"), "0 0 * * *"),
    "@hourly": "0 * * * *",
}
_ZONES = ("CRON_TZ=", "TZ=")
#: What a schedule gives its task that the template has not.
_OWN_PARAMETERS = ("environment", "arguments", "version", "inventory_id", "params")
_NOTHING: tuple[Any, ...] = (None, "", "{}", "[]", {}, [])
_BRANCHES = "refs/heads/"
#: What runs a script of the repository on the machine itself, and so does a build here.
_INTERPRETERS = {"bash": "bash", "python": "python3"}
_STATIC = {"static": "inventory.ini", "static-yaml": "inventory.yml"}
_BUILD = "build"


def take(data: bytes, taken: Taken, username: str) -> None:
    """Take over what is in a backup; ``username`` is that of logins which nothing says. Raises `NotReadableError`."""
    try:
        backup = json.loads(text_of(data))
    except (ValueError, RecursionError) as error:
        raise NotReadableError(_("It is not JSON, or cut off.")) from error
    if not isinstance(backup, dict) or not isinstance(backup.get("meta"), dict) or "templates" not in backup:
        raise NotReadableError(_("It is not the backup of a project of Semaphore: meta and templates are missing."))
    _Semaphore(backup, taken, username)


def _str(value: Any) -> str:
    return value if isinstance(value, str) else ""


class _Semaphore:
    """Goes through the lists of a backup in the order in which their entries need one another."""

    def __init__(self, backup: Row, taken: Taken, username: str) -> None:
        self.taken = taken
        self._backup = backup
        self._username = username
        self._keys = self._by_name("keys")
        self._repositories = self._by_name("repositories")
        self._environments = self._by_name("environments")
        self._templates = self._by_name("templates")
        self._credentials: dict[tuple[str, str, str], str] = {}
        self._servers: dict[tuple[str, str, str, str], str] = {}
        self._groups: dict[str, tuple[str, Environment]] = {}
        self._launching: set[str] = set()
        for row in self._rows("inventories"):
            self._take_inventory(row)
        self._tell_of_environments()
        builds = {_str(row.get("build_template")) for row in self._rows("templates")}
        for row in self._rows("templates"):
            if not (row.get("type") == _BUILD and row.get("name") in builds):
                self._take_template(row)
        self._tell_of_the_others()

    def _rows(self, name: str) -> list[Row]:
        rows = self._backup.get(name)
        return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []

    def _by_name(self, name: str) -> dict[str, Row]:
        return {_str(row.get("name")): row for row in self._rows(name)}

    def _credential(self, key: str, username: str, purpose: str) -> str | None:
        """The login of a key for a user; nothing where there is no such key, or it holds none."""
        kind = _str(self._keys.get(key, {}).get("type"))
        if kind not in {"ssh", "login_password"}:
            return None
        which = key, username, purpose
        if which not in self._credentials:
            wanted = key if not any(other == key for other, *_rest in self._credentials) else f"{key}-{username}"
            name = self.taken.name("credentials", wanted, "login")
            is_key = kind == "ssh"
            field, kinds = ("private_key_env", "ssh_key") if is_key else ("password_env", "password")
            about = _("the private key “%s”") if is_key else _("the password of “%s”")
            variable = self.taken.secret(name, "key" if is_key else "password", purpose=about % visible(key))
            values = {"name": name, "username": username, "kind": kinds, field: variable, "purpose": purpose}
            if not self.taken.add("credentials", values):
                return None
            self._credentials[which] = name
        return self._credentials[which]

    def _environment(self, what: str, *names: str) -> Environment:
        """The environment that a name says, else production, where the fewest people may do something."""
        found = environment_of(*names)
        words = {"what": visible(what), "environment": (found or Environment.PRODUCTION).label}
        if found is None:
            self.taken.tell(_("“%(what)s” is taken for %(environment)s: its name does not say.") % words)
        elif what.lower() != found:
            self.taken.tell(_("“%(what)s” is taken for %(environment)s.") % words)
        return found or Environment.PRODUCTION

    def _take_inventory(self, row: Row) -> None:
        name = _str(row.get("name"))
        what = _("Inventory “%s”") % visible(name)
        if _str(row.get("type")) not in _STATIC:
            self.taken.leave(what, _("it is not in the backup, but in a file of a repository: import that file."))
            return
        text = _str(row.get("inventory"))
        try:
            check_size(len(text))
            listing = ansible.read(text, _STATIC[_str(row.get("type"))])
        except UnreadableListingError as error:
            self.taken.leave(what, str(error))
            return
        for note in listing.notes:
            self.taken.leave(what, note)
        if key := _str(row.get("become_key")):
            self.taken.leave(_("The password for sudo “%s”") % visible(key), _("sudo must work without a password."))
        environment = self._environment(name, name)
        members = {found.name: server for found in listing.servers if (server := self._server(what, row, found))}
        for group, hosts in ({name: [*members]} | listing.groups).items():
            self._take_group(name, group, environment, [members[each] for each in hosts if each in members])

    def _server(self, what: str, inventory: Row, found: Found) -> str | None:
        """The server of a host; of one that another inventory has in the same way, the same one."""
        said = _("%(inventory)s, host “%(host)s”") % {"inventory": what, "host": visible(found.name)}
        if found.problem or found.jumps:
            behind = _("it is behind a jump host: import the inventory on the servers' page.")
            self.taken.leave(said, found.problem or behind)
            return None
        username, key = found.username or self._username, _str(inventory.get("ssh_key"))
        which = found.name, found.host, found.port, username
        if which in self._servers:
            return self._servers[which]
        login = self._credential(key, username, "servers")
        if login is None:
            self.taken.leave(said, _("the inventory has no key or password to log in with."))
            return None
        name = self.taken.name("servers", found.name, "server")
        port = {"port": int(found.port)} if found.port.isascii() and found.port.isdecimal() else {}
        if not self.taken.add("servers", {"name": name, "host": found.host, "credential": login} | port):
            return None
        self._servers[which] = name
        return name

    def _take_group(self, inventory: str, group: str, environment: Environment, servers: list[str]) -> None:
        """A group of an inventory; that of all its servers has its own name."""
        if not servers:
            return
        name = self.taken.name("groups", group if group == inventory else f"{inventory} {group}", "group")
        is_there = self.taken.add("groups", {"name": name, "environment": environment.value, "servers": servers})
        if is_there and group == inventory:
            self._groups[inventory] = name, environment

    def _take_template(self, row: Row) -> None:
        name, kind = _str(row.get("name")), _str(row.get("app")) or "ansible"
        what = _("Template “%s”") % visible(name)
        if kind not in {"ansible", *_INTERPRETERS}:
            self.taken.leave(what, _("“%s” is not something that deployer runs.") % visible(kind))
            return
        group, environment = self._groups.get(_str(row.get("inventory")), (None, None))
        environments = self._of(row)
        environment = environment or self._environment(name, *environments, name)
        project: Row = {"name": self.taken.name("projects", name, "project"), "environment": environment.value}
        if text := _str(row.get("description")):
            project["description"] = text
        project |= {"server_groups": [group]} if group else {}
        project |= self._repository(row)
        if script := self._script(row):
            project["build_script"] = script
        project["variables"] = self._variables(str(project["name"]), row, environments)
        if name and name not in self._launching:
            self._launching.add(name)
            found = {"schedules": self._schedules(name, project), "webhooks": self._webhooks(name, project)}
            project |= {part: rows for part, rows in found.items() if rows}
        if self.taken.add("projects", project):
            self.taken.tell(_("“%s”: say how it is restarted before it is launched.") % visible(str(project["name"])))

    def _schedules(self, template: str, project: Row) -> list[Row]:
        """Its schedules: paused, for it is still Semaphore that runs them."""
        found = []
        for row in self._rows("schedules"):
            if row.get("template") != template:
                continue
            values, why = _moments(row)
            if why or (why := _why_another(row, project)):
                self.taken.leave(_("Schedule “%s”") % visible(_str(row.get("name"))), visible(why))
                continue
            values["name"] = self.taken.name(f"schedules of {project['name']}", _str(row.get("name")), "schedule")
            values["deployment_type"] = "full" if "git_url" in project else "restart_only"
            branch = _str(_parameters(row).get("git_branch"))
            found.append(values | ({"branch": branch} if branch else {}) | {"is_active": False})
            self.taken.tell(_("Schedules are paused: resume each once Semaphore runs it no more."))
            if "time_zone" not in values:
                self.taken.tell(_("The time zone of schedules is not in the backup: they are in UTC."))
        return found

    def _webhooks(self, template: str, project: Row) -> list[Row]:
        """Its integrations that do here what they did there."""
        found = []
        for row in self._rows("integrations"):
            if row.get("template") != template:
                continue
            if why := _why_no_webhook(row, project):
                self.taken.leave(_("Integration “%s”") % visible(_str(row.get("name"))), why)
                continue
            name = self.taken.name(f"webhooks of {project['name']}", _str(row.get("name")), "webhook")
            refs = [project["default_branch"]]
            found.append({"name": name, "provider": "github", "events": ["push"], "refs": refs})
            self.taken.tell(_("Webhook “%s” has another address and secret here: give GitHub both.") % visible(name))
        return found

    def _of(self, template: Row) -> list[str]:
        """The names of its environments: one, or several in newer versions."""
        several = template.get("environments")
        names = several if isinstance(several, list) else [template.get("environment")]
        return [each for each in names if isinstance(each, str) and each]

    def _repository(self, template: Row) -> Row:
        row = self._repositories.get(_str(template.get("repository")), {})
        found = {"git_url": _str(row.get("git_url"))}
        found["default_branch"] = _str(template.get("git_branch")) or _str(row.get("git_branch"))
        credential = self._credential(_str(row.get("ssh_key")), "git", "git")
        found |= {"git_credential": credential} if credential and found["git_url"] else {}
        return {name: value for name, value in found.items() if value}

    def _script(self, template: Row) -> str:
        """Its build: its own script, after that of the template whose build it deploys."""
        rows = [self._templates.get(_str(template.get("build_template"))), template]
        lines = [line for row in rows if row for line in self._lines(row)]
        return "\n".join(lines)

    def _lines(self, template: Row) -> Iterator[str]:
        kind, path = _str(template.get("app")) or "ansible", _str(template.get("playbook"))
        if not path:
            return
        if kind not in _INTERPRETERS:
            what = _("The playbook “%(path)s” of “%(name)s”") % {
                "path": visible(path),
                "name": visible(_str(template.get("name"))),
            }
            self.taken.leave(what, _("deployer runs no Ansible: put what it does into the build, steps and restart."))
            return
        yield " ".join(quote(word) for word in [_INTERPRETERS[kind], path, *_arguments(template)])

    def _variables(self, owner: str, template: Row, environments: list[str]) -> list[Row]:
        values: list[tuple[str, Any]] = []
        for name in environments:
            row = self._environments.get(name, {})
            values += [*_object(row.get("json")).items(), *_object(row.get("env")).items()]
        found = {str(row["name"]): row for row in self.taken.variables(owner, values)}
        questions = template.get("survey_vars")
        for each in questions if isinstance(questions, list) else []:
            if isinstance(each, dict) and (asked := self._question(owner, each)):
                found[str(asked["name"])] = asked
        return [*found.values()]

    def _question(self, owner: str, survey: Row) -> Row | None:
        name, values = _str(survey.get("name")), survey.get("values")
        if survey.get("type") == "secret":
            what = _("variable “%(name)s” of “%(owner)s”") % {"name": visible(name), "owner": visible(owner)}
            self.taken.leave(what, _("a launch asks for no secrets: make it a secret variable."))
            return None
        found = self.taken.variables(owner, [(name, _str(survey.get("default_value")))])
        if not found or "value" not in found[0]:
            return None
        row: Row = found[0] | {"is_prompt": True}
        rows = [each for each in values if isinstance(each, dict)] if isinstance(values, list) else []
        if answers := [text for each in rows if (text := _str(each.get("value"))) and "\n" not in text]:
            row["choices"] = "\n".join(answers)
            row["value"] = row["value"] if row["value"] in answers else ""
        return row

    def _tell_of_environments(self) -> None:
        for name, row in self._environments.items():
            if row.get("password"):
                what = _("The password of environment “%s”") % visible(name)
                self.taken.leave(what, _("its secret is not taken over: make a secret variable."))

    def _tell_of_the_others(self) -> None:
        used = {key for key, *_rest in self._credentials}
        for name, row in self._keys.items():
            if name not in used and row.get("type") != "none":
                self.taken.leave(
                    _("Key “%s”") % visible(name), _("no server and no repository that was taken over uses it.")
                )
        orphan = _("its template is not taken over.")
        for name, called in (("schedules", _("Schedule “%s”")), ("integrations", _("Integration “%s”"))):
            for row in self._rows(name):
                if _str(row.get("template")) not in self._launching:
                    self.taken.leave(called % visible(_str(row.get("name"))), orphan)
        for name, (what, why) in _LEFT.items():
            for row in self._rows(name):
                self.taken.leave(what % visible(_str(row.get("name")) or _str(row.get("title"))), str(why))
        for name in sorted(map(str, self._backup.keys() - _KNOWN - _LEFT.keys())):
            if self._backup[name]:
                self.taken.leave(_("“%s” of the backup") % visible(name), _("there is nothing like it here."))


def _objection(validator: Callable[[str], None], value: str) -> str:
    """Why a value is not taken; empty where it is."""
    try:
        validator(value)
    except ValidationError as error:
        return " ".join(error.messages)
    return ""


def _parameters(schedule: Row) -> Row:
    value = schedule.get("task_params")
    return value if isinstance(value, dict) else {}


def _moments(schedule: Row) -> tuple[Row, str]:
    """When a schedule comes round, as a schedule here has it; or why there is no such one."""
    if schedule.get("type") == "run_at":
        said = _str(schedule.get("run_at"))
        is_one = moment_of(said, ZoneInfo("UTC")) is not None
        return ({"at": said}, "") if is_one else ({}, _("it is for a moment that the backup does not say."))
    if schedule.get("type") or schedule.get("checkable_repository"):
        return {}, _("it launches when a repository has something new: make a webhook.")
    words, values = _str(schedule.get("cron_format")).split(), Row()
    if words and words[0].startswith(_ZONES):
        values["time_zone"] = words.pop(0).partition("=")[2]
        if why := _objection(validate_time_zone, values["time_zone"]):
            return {}, why
    pattern = " ".join(words)
    pattern = _SPELLED.get(pattern, pattern.replace("?", "*"))
    if pattern.startswith("@"):
        return {}, _("“%s” is no pattern of five fields.") % visible(pattern)
    return values | {"cron": pattern}, problem_of_cron(pattern)


def _why_another(schedule: Row, project: Row) -> str:
    """Why a schedule launches something else than the project does by itself; empty where it does not."""
    parameters = _parameters(schedule)
    if any(parameters.get(name) not in _NOTHING for name in _OWN_PARAMETERS):
        return _("it has parameters of its own: make it here, with answers to what the project asks.")
    if branch := parameters.get("git_branch"):
        if "git_url" not in project or not isinstance(branch, str):
            return _("it is for a branch, and the project has no repository here.")
        if why := _objection(validate_ref, branch):
            return why
    return _why_unanswered(project)


def _why_unanswered(project: Row) -> str:
    for variable in project["variables"]:
        if variable.get("is_prompt") and not variable.get("value"):
            return _("it would have to answer “%s”: make it here, with an answer.") % visible(variable["name"])
    return ""


def _why_no_webhook(integration: Row, project: Row) -> str:
    """Why an integration is no webhook here; empty where one does the same: it launches what GitHub says was pushed to
    the branch that the project has.
    """
    branch, matchers = _str(project.get("default_branch")), integration.get("matchers")
    rows = [each for each in matchers if isinstance(each, dict)] if isinstance(matchers, list) else []
    said = {(_str(each.get("match_type")), _str(each.get("key")).lower()): each for each in rows}
    is_each_once = len(said) == len(rows)
    event, ref = said.pop(("header", "x-github-event"), None), said.pop(("body", "ref"), None)
    is_push = is_each_once and not said and (event is None or _equals(event, "push"))
    is_own = ref is not None and _equals(ref, _BRANCHES + branch) and not branch.startswith(("!", "tags/"))
    is_plain = is_push and is_own and not integration.get("extract_values") and "git_url" in project
    if not branch or _objection(validate_ref, branch) or not is_plain or integration.get("auth_method") != "github":
        return _("only those signed by GitHub, for pushes to the branch of the project alone, do the same here.")
    return _why_unanswered(project)


def _equals(matcher: Row, value: str) -> bool:
    return matcher.get("method") == "equals" and matcher.get("value") == value


def _object(text: Any) -> Row:
    """The object that a text holds as JSON; an empty one where it holds none."""
    try:
        value = json.loads(_str(text) or "{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _arguments(template: Row) -> list[str]:
    """The arguments of its script: a list of texts, as JSON."""
    try:
        value = json.loads(_str(template.get("arguments")) or "[]")
    except (ValueError, RecursionError):
        return []
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []
