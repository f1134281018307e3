"""Semaphore: the backup of a project, as its settings page downloads it (JSON), as sections of YAML.

===============  =====================================================================================================
keys             credentials of the servers and repositories that use them; the backup has no secret and no user name
inventories      static ones: servers and groups; those in files of a repository stay there
repositories     the git address and the branch of the projects that use them
environments     variables of the projects that use them; extra variables of Ansible that are one text or number, too
templates        a project each; of an application of bash or Python its script is the build, one of type build is the
                 build of those that deploy it. Playbooks and Terraform are told, not taken over
survey_vars      variables that are asked for at launch
===============  =====================================================================================================
"""

import json
from collections.abc import Iterator
from shlex import quote
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer.taking_over.taken import NotReadableError, Taken, environment_of, text_of
from servers.imports import ansible
from servers.imports.listing import Found, UnreadableListingError, check_size, visible
from servers.models import Environment

Row = dict[str, Any]

#: Lists of a backup whose entries are told by name: what they are, why they stay.
_LEFT = {
    "schedules": (gettext_lazy("Schedule “%s”"), gettext_lazy("it is not taken over: make it again here.")),
    "integrations": (gettext_lazy("Integration “%s”"), gettext_lazy("it has another address and secret here.")),
    "views": (gettext_lazy("View “%s”"), gettext_lazy("there is nothing like it here.")),
    "runners": (gettext_lazy("Runner “%s”"), gettext_lazy("workers run on deployer's own machine.")),
    "roles": (gettext_lazy("Role “%s”"), gettext_lazy("grant roles to users and teams here.")),
    "secret_storages": (gettext_lazy("Secret storage “%s”"), gettext_lazy("name sources of values in the settings.")),
    "workflows": (gettext_lazy("Workflow “%s”"), gettext_lazy("there is nothing like it here.")),
    "host_configs": (gettext_lazy("Credential mapping “%s”"), gettext_lazy("credentials have hosts of their own.")),
}
_KNOWN = frozenset({"meta", "templates", "repositories", "keys", "inventories", "environments", "integration_aliases"})
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
        if self.taken.add("projects", project):
            self.taken.tell(_("“%s”: say how it is restarted before it is launched.") % visible(str(project["name"])))

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
        for name, (what, why) in _LEFT.items():
            for row in self._rows(name):
                self.taken.leave(what % visible(_str(row.get("name")) or _str(row.get("title"))), str(why))
        for name in sorted(map(str, self._backup.keys() - _KNOWN - _LEFT.keys())):
            if self._backup[name]:
                self.taken.leave(_("“%s” of the backup") % visible(name), _("there is nothing like it here."))


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
