"""Spug: a dump of its MySQL database, or what its `manage.py dumpdata` wrote, as sections of YAML.

==================  ==================================================================================================
hosts               servers; their login by user name, its key is asked for as an environment variable
host_groups         groups, unless their hosts are deployed to in several environments
deploys             a project for each application in each environment, with a group of its own where no other fits
deploy_extend1      where its code is, its build, a step before the switch, its restart script, releases to keep
deploy_extend2      a project that is only restarted: what it does on its hosts is the restart script
configs             variables of the project, or of a set that has the name of the service
exec_templates      saved commands
==================  ==================================================================================================
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from deployer.taking_over import sql_dump
from deployer.taking_over.taken import NotReadableError, Taken, environment_of, text_of
from projects.models import SetVariable
from servers.imports.listing import visible
from servers.models import Environment

Row = dict[str, Any]

#: Models of Spug, as `dumpdata` names them, and their tables.
_MODELS = {
    "account.role": "roles",
    "account.user": "users",
    "app.app": "apps",
    "app.deploy": "deploys",
    "app.deployextend1": "deploy_extend1",
    "app.deployextend2": "deploy_extend2",
    "config.config": "configs",
    "config.environment": "environments",
    "config.service": "services",
    "credential.credential": "credentials",
    "exec.exectemplate": "exec_templates",
    "host.group": "host_groups",
    "host.host": "hosts",
    "monitor.detection": "detections",
    "monitor.monitor": "detections",
    "schedule.task": "tasks",
    "setting.setting": "settings",
}
#: Tables whose rows are told by name: the column that has it, what they are, why they stay.
_LEFT = {
    "credentials": (
        "name",
        gettext_lazy("Login “%s”"),
        gettext_lazy("its secret stays: make a credential."),
    ),
    "detections": (
        "name",
        gettext_lazy("Monitoring “%s”"),
        gettext_lazy("there is none here: see health checks."),
    ),
    "roles": ("name", gettext_lazy("Role “%s”"), gettext_lazy("grant roles to users and teams here.")),
    "settings": ("key", gettext_lazy("Setting “%s”"), gettext_lazy("it may be a key or a password.")),
    "tasks": ("name", gettext_lazy("Planned task “%s”"), gettext_lazy("it runs a command, and deploys nothing.")),
    "users": ("username", gettext_lazy("User “%s”"), gettext_lazy("make users here, or let them sign in.")),
}
_TAKEN = frozenset(
    {"apps", "configs", "deploy_extend1", "deploy_extend2", "deploys", "environments", "exec_templates", "host_groups"}
    | {"host_groups_hosts", "hosts", "services"}
)
#: What Django keeps for itself.
_OF_DJANGO = ("django_", "auth_")
_LOGIN_IN_URL = re.compile(r"(https?://)[^/@]*@")
_OWN_VARIABLE = re.compile(r"\$\{?(SPUG_[A-Z0-9_]+)")
_REFERENCES = frozenset({"app", "env", "deploy"})
_REGULAR, _CUSTOM = "1", "2"


def take(data: bytes, taken: Taken) -> None:
    """Take over what is in a dump. Raises `NotReadableError`."""
    text = text_of(data)
    tables = _of_dumpdata(text) if text.lstrip().startswith("[") else _of_sql(text)
    if not ({"hosts", "apps", "deploys"} & tables.keys()):
        raise NotReadableError(_("It has none of Spug's tables hosts, apps and deploys, or they are empty."))
    _Spug(tables, taken)


def _of_sql(text: str) -> dict[str, sql_dump.Table]:
    return sql_dump.read(text, _TAKEN | _LEFT.keys())


def _of_dumpdata(text: str) -> dict[str, sql_dump.Table]:
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotReadableError(_("It is not JSON, or cut off.")) from error
    tables: dict[str, sql_dump.Table] = {}
    for row in rows:
        if not (isinstance(row, dict) and isinstance(row.get("fields"), dict)):
            raise NotReadableError(_("It is not what Django's dumpdata writes: model, pk and fields of each row."))
        name = _MODELS.get(str(row.get("model")), str(row.get("model")))
        table = tables.setdefault(name, sql_dump.Table())
        table.number += 1
        fields = {f"{key}_id" if key in _REFERENCES else key: value for key, value in row["fields"].items()}
        table.rows.append({"id": row.get("pk"), "deploy_id": row.get("pk"), **fields})
        if name == "host_groups":
            members = tables.setdefault("host_groups_hosts", sql_dump.Table())
            members.rows += [{"group_id": row.get("pk"), "host_id": each} for each in _listed(fields.get("hosts"))]
    return tables


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _json(text: Any, kind: type) -> Any:
    """What a column holds as JSON; an empty one where it is none."""
    try:
        value = json.loads(str(text or ""))
    except (ValueError, RecursionError):
        return kind()
    return value if isinstance(value, kind) else kind()


def _str(value: Any) -> str:
    return "" if value is None else str(value)


def _number(value: Any) -> int | None:
    text = _str(value)
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


def _is_true(value: Any) -> bool:
    return _str(value).lower() in {"1", "true"}


class _Spug:
    """Goes through the tables in the order in which their rows need one another."""

    def __init__(self, tables: dict[str, sql_dump.Table], taken: Taken) -> None:
        self.taken = taken
        self._tables = tables
        self._apps = {_str(row.get("id")): row for row in self._rows("apps")}
        self._environments = {_str(row.get("id")): row for row in self._rows("environments")}
        self._hosts: dict[str, str] = {}
        self._groups: dict[tuple[str, frozenset[str]], str] = {}
        self._credentials: dict[tuple[str, str], str] = {}
        self._variables: dict[str, str] = {}
        self._sets: dict[tuple[str, str], str] = {}
        self._take_hosts()
        self._take_groups()
        self._take_services()
        self._take_deploys()
        self._take_commands()
        self._tell_of_the_others()

    def _rows(self, table: str) -> list[Row]:
        found = self._tables.get(table)
        return list(found.rows) if found else []

    def _take_hosts(self) -> None:
        for row in self._rows("hosts"):
            what = _("Host “%s”") % visible(_str(row.get("name")))
            if row.get("deleted_at"):
                self.taken.leave(what, _("it is deleted."))
                continue
            login = self._credential(row)
            if login is None:
                self.taken.leave(what, _("its user name is missing, or wrong."))
                continue
            name = self.taken.name("servers", _str(row.get("name")), _str(row.get("hostname")) or "server")
            port = _number(row.get("port"))
            values = {"name": name, "host": _str(row.get("hostname")), "credential": login}
            if self.taken.add("servers", values | ({"port": port} if port is not None else {})):
                self._hosts[_str(row.get("id"))] = name

    def _credential(self, row: Row) -> str | None:
        """The login of a host: by its user, and by its own key where it has one."""
        username, key = _str(row.get("username")), _str(row.get("pkey"))
        which = username, hashlib.sha256(key.encode("utf-8", "replace")).hexdigest() if key else ""
        if which not in self._credentials:
            wanted = f"spug-{username}" + (f"-{_str(row.get('name'))}" if key else "")
            name = self.taken.name("credentials", wanted, "spug")
            if which[1] not in self._variables:  # one key may be that of several users
                purpose = (
                    _("the private key of “%s”") % visible(name) if key else _("the private key of Spug's settings")
                )
                self._variables[which[1]] = self.taken.secret(name if key else "spug", "private key", purpose=purpose)
            variable = self._variables[which[1]]
            values = {"name": name, "username": username, "private_key_env": variable, "purpose": "servers"}
            if not self.taken.add("credentials", values):
                return None
            self._credentials[which] = name
        return self._credentials[which]

    def _environment(self, number: Any) -> Environment:
        """Ours for one of Spug: by its name, else production, where the fewest people may do something."""
        row = self._environments.get(_str(number), {})
        names = [_str(row.get("key")), _str(row.get("name"))]
        found = environment_of(*names)
        words = {"theirs": visible(" ".join(filter(None, names))), "ours": (found or Environment.PRODUCTION).label}
        if found is None:
            self.taken.tell(_("Environment “%(theirs)s” is taken for %(ours)s: its name does not say.") % words)
        else:
            self.taken.tell(_("Environment “%(theirs)s” is taken for %(ours)s.") % words)
        return found or Environment.PRODUCTION

    def _members(self, deploy: Row) -> frozenset[str]:
        return frozenset(map(_str, _json(deploy.get("host_ids"), list)))

    def _take_groups(self) -> None:
        """Groups whose hosts are deployed to in one environment, or in none that is known."""
        members: dict[str, set[str]] = {}
        for row in self._rows("host_groups_hosts"):
            members.setdefault(_str(row.get("group_id")), set()).add(_str(row.get("host_id")))
        for host in self._rows("hosts"):  # earlier versions had a zone in place of groups
            if zone := host.get("zone"):
                members.setdefault(f"zone {zone}", set()).add(_str(host.get("id")))
        used = [(self._environment(row.get("env_id")), self._members(row)) for row in self._rows("deploys")]
        named = {_str(row.get("id")): _str(row.get("name")) for row in self._rows("host_groups")}
        for number, hosts in members.items():
            name = named.get(number, number.removeprefix("zone "))
            environments = {environment for environment, deployed in used if deployed & hosts}
            if len(environments) > 1:
                what = _("Host group “%s”") % visible(name)
                self.taken.leave(what, _("its hosts are deployed to in several environments; a group has one."))
                continue
            if not environments:
                self.taken.tell(_("Nothing is deployed to group “%s”: it is taken for production.") % visible(name))
            self._group(name, environments.pop() if environments else Environment.PRODUCTION, frozenset(hosts))

    def _group(self, wanted: str, environment: Environment, hosts: frozenset[str]) -> str | None:
        """The group of these hosts, one that there is already where it has the same."""
        servers = [name for number, name in self._hosts.items() if number in hosts]
        if not servers:
            return None
        if (environment, hosts) not in self._groups:
            name = self.taken.name("groups", wanted, "group")
            if not self.taken.add("groups", {"name": name, "environment": environment.value, "servers": servers}):
                return None
            self._groups[environment, hosts] = name
        return self._groups[environment, hosts]

    def _configs(self, kind: str, owner: Any, environment: Any) -> Iterator[tuple[str, Any]]:
        """The configuration of an application or a service, by the names under which scripts have it."""
        key = _str((self._apps if kind == "app" else self._services).get(_str(owner), {}).get("key"))
        for row in self._rows("configs"):
            of = row.get("type"), _str(row.get("o_id")), _str(row.get("env_id"))
            if of == (kind, _str(owner), _str(environment)):
                yield f"_SPUG_{key}_{_str(row.get('key'))}".upper(), _str(row.get("value"))

    def _take_services(self) -> None:
        self._services = {_str(row.get("id")): row for row in self._rows("services")}
        for number, row in self._services.items():
            for environment in self._environments:
                if not any(self._configs("src", number, environment)):
                    continue
                key = _str(self._environments[environment].get("key"))
                name = self.taken.name("variable_sets", f"{_str(row.get('key'))}-{key}", "service")
                rows = self.taken.variables(name, self._configs("src", number, environment), SetVariable)
                values = {"name": name, "environment": self._environment(environment).value, "variables": rows}
                if self.taken.add("variable_sets", values | _described(row)):
                    self._sets[number, environment] = name

    def _take_deploys(self) -> None:
        regular = {_str(row.get("deploy_id")): row for row in self._rows("deploy_extend1")}
        custom = {_str(row.get("deploy_id")): row for row in self._rows("deploy_extend2")}
        for row in self._rows("deploys"):
            number = _str(row.get("id"))
            app = self._apps.get(_str(row.get("app_id")), {})
            key = _str(app.get("key") or app.get("name") or f"app-{number}")
            environment = _str(self._environments.get(_str(row.get("env_id")), {}).get("key"))
            name = self.taken.name("projects", f"{key}-{environment}".strip("-"), f"project-{number}")
            project: Row = {"name": name, "environment": self._environment(row.get("env_id")).value} | _described(app)
            group = self._group(name, self._environment(row.get("env_id")), self._members(row))
            if group:
                project["server_groups"] = [group]
            else:
                self.taken.tell(_("“%s” has no hosts: choose its groups.") % visible(name))
            if "is_parallel" in row and not _is_true(row["is_parallel"]):
                project["batches"] = "1"
            if _is_true(row.get("is_audit")):
                self.taken.leave(_("The approval of “%s”") % visible(name), _("ask for approvals by a rule of gates."))
            if number in regular and _str(row.get("extend")) == _REGULAR:
                project |= self._regular(name, regular[number])
            elif number in custom and _str(row.get("extend")) == _CUSTOM:
                project |= self._custom(name, custom[number])
            else:
                self.taken.leave(visible(name), _("how it is deployed is not in the dump."))
            self._take_variables(project, row, app)
            self._tell_of_own_variables(project)
            self.taken.add("projects", project)

    def _take_variables(self, project: Row, deploy: Row, app: Row) -> None:
        name, environment = str(project["name"]), deploy.get("env_id")
        values: list[tuple[str, Any]] = [*project.pop("custom", {}).items()]
        for number in _json(app.get("rel_apps"), list):
            values += self._configs("app", number, environment)
        values += self._configs("app", app.get("id"), environment)
        project["variables"] = self.taken.variables(name, values)
        services = [_str(each) for each in _json(app.get("rel_services"), list)]
        sets = [self._sets[each, _str(environment)] for each in services if (each, _str(environment)) in self._sets]
        if sets:
            project["variable_sets"] = sets

    def _regular(self, name: str, row: Row) -> Row:
        """A deployment from a repository: clone, build, a link that is switched."""
        found: Row = {"custom": _json(row.get("custom_envs"), dict)}
        found["git_url"] = self._git_url(name, _str(row.get("git_repo")))
        target, store = _str(row.get("dst_dir")).strip(), _str(row.get("dst_repo")).strip().rstrip("/")
        if store:
            found["deploy_path"] = f"{store}/{name}"
            current = visible(f"{store}/{name}/current")
            words = {"name": visible(name), "link": visible(target), "current": current}
            self.taken.tell(_("“%(name)s”: let the link “%(link)s” lead to “%(current)s” before it is used.") % words)
        if versions := _number(row.get("versions")):
            found["keep_releases"] = versions
        scripts = {column: _str(row.get(column)).replace("\r\n", "\n") for column in _HOOKS}
        found |= {"build_script": scripts["hook_post_server"], "restart_script": scripts["hook_post_host"]}
        if scripts["hook_pre_host"]:
            step = {"name": "before the switch", "moment": "prepare", "script": scripts["hook_pre_host"]}
            found["steps"] = [step]
        if scripts["hook_pre_server"]:
            what = _("What “%s” does before the checkout") % visible(name)
            self.taken.leave(what, _("there is no such moment here: put it into the build script."))
        if _str(_json(row.get("filter_rule"), dict).get("data")).strip():
            what = _("The file filter of “%s”") % visible(name)
            self.taken.leave(what, _("name the folder to release (output_dir), or delete in the build script."))
        return {column: value for column, value in found.items() if value != ""}

    def _git_url(self, name: str, url: str) -> str:
        url = url.strip()
        if _LOGIN_IN_URL.match(url):
            self.taken.leave(_("The login in the git address of “%s”") % visible(name), _("make a git credential."))
            url = _LOGIN_IN_URL.sub(r"\1", url, count=1)
        return url

    def _custom(self, name: str, row: Row) -> Row:
        """A deployment that is a list of actions on Spug's machine and on the hosts."""
        steps, names = list[Row](), set[str]()
        for number, action in enumerate(_actions(row.get("server_actions")), start=1):
            title = _title(action, number)
            title = title if title not in names else f"{title[:50]} {number}"
            names.add(title)
            script = _str(action.get("data")).replace("\r\n", "\n")
            steps.append({"name": title, "moment": "before_all", "kind": "platform", "script": script})
            steps[-1]["types"] = ["full", "restart_only"]
        scripts = []
        for number, action in enumerate(_actions(row.get("host_actions")), start=1):
            if action.get("type") == "transfer":
                what = _("The transfer “%(title)s” of “%(name)s”") % {
                    "title": _title(action, number),
                    "name": visible(name),
                }
                self.taken.leave(what, _("deployer sends what it builds from a repository, or packages."))
                continue
            script = _str(action.get("data")).replace("\r\n", "\n")
            scripts.append(f"# {_title(action, number)}\n(\ncd /tmp\n{script}\n) || exit\n")
        self.taken.tell(_("“%s” has no repository: it is launched as restart-only.") % visible(name))
        return {"steps": steps, **({"restart_script": "\n".join(scripts)} if scripts else {})}

    def _tell_of_own_variables(self, project: Row) -> None:
        """Spug's own variables in scripts, which nobody sets here."""
        steps = [step["script"] for step in project.get("steps", [])]
        texts = [*steps, *(str(project.get(column, "")) for column in ("build_script", "restart_script"))]
        if used := sorted({name for text in texts for name in _OWN_VARIABLE.findall(text)}):
            words = {"name": visible(str(project["name"])), "names": visible(", ".join(used))}
            self.taken.tell(
                _("Scripts of “%(name)s” use variables of Spug, which have no value here: %(names)s.") % words
            )

    def _take_commands(self) -> None:
        for row in self._rows("exec_templates"):
            what = _("Template “%s”") % visible(_str(row.get("name")))
            if _str(row.get("interpreter") or "sh") not in {"sh", "bash"}:
                self.taken.leave(what, _("commands are run by bash."))
                continue
            if _json(row.get("parameters"), list):
                self.taken.leave(_("The parameters of %s") % what, _("add them to the command."))
            name = self.taken.name("commands", _str(row.get("name")), "command")
            script = _str(row.get("body")).replace("\r\n", "\n")
            self.taken.add("commands", {"name": name, "script": script} | _described(row))

    def _tell_of_the_others(self) -> None:
        for left, (column, what, why) in _LEFT.items():
            for row in self._rows(left):
                self.taken.leave(what % visible(_str(row.get(column))), str(why))
        for name, table in sorted(self._tables.items()):
            if name not in _TAKEN | _LEFT.keys() and not name.startswith(_OF_DJANGO):
                words = {"table": visible(name), "number": table.number}
                self.taken.leave(_("Table “%(table)s” (%(number)s rows)") % words, _("there is nothing like it here."))


_HOOKS = ("hook_pre_server", "hook_post_server", "hook_pre_host", "hook_post_host")


def _described(row: Row) -> Row:
    """What it is for, in the words of Spug: its name and its description."""
    text = "\n".join(filter(None, (_str(row.get("name")), _str(row.get("desc")))))
    return {"description": text} if text else {}


def _actions(text: Any) -> Iterable[Row]:
    return [each for each in _json(text, list) if isinstance(each, dict)]


def _title(action: Row, number: int) -> str:
    return visible(_str(action.get("title")) or f"action {number}")[:60]
