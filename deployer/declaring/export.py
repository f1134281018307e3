"""A project as the YAML that `deployer apply` reads: the counterpart of deployer.declaring.reading."""

from collections.abc import Iterable
from itertools import chain, count
from typing import Any

import yaml
from django.db import models
from django.utils.translation import gettext as _

from deployer.declaring.by_itself import Trigger, asked_answers
from deployer.declaring.reading import SPELLED, declared_fields
from deployer.models import Channel, Schedule, Stop, Train
from deployer.notices.kinds.every import KINDS
from projects.cron import moment_of
from projects.given import questions_of
from projects.guess.proposal import short_name
from projects.models import TEMPLATED, ConfigFile, Project, Template, TemplateFile, Variable
from projects.questions import Question
from projects.steps import by_moment
from servers.fields import is_unreadable


class _Dumper(yaml.SafeDumper):
    """Scripts as blocks of lines, lists indented; everything else in its shortest form."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


#: What YAML takes for the end of a line, besides the line feed; only between double quotes it stays what it is.
_OTHER_BREAKS = frozenset("\r\x85\u2028\u2029")


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if _OTHER_BREAKS & set(text) else "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def as_yaml(project: Project, *, sees_login: bool = True) -> str:
    """Every setting and part of a project; a secret is the name of an environment variable.

    Who does not see its git credential gets a file that leaves that as it is.
    """
    variables = list(project.variables.filter(from_template=False).select_related("server_group", "server"))
    sets = [str(row) for row in project.attached_sets.select_related("variable_set")]
    secrets = secret_names(project, variables)
    declared = {name: _value(project, name) for name in _settings(project)}
    if not sees_login:
        del declared["git_credential"]
    declared["services"] = [_declared(service) for service in project.services.all()]
    declared["health_checks"] = [_declared(check) for check in project.health_checks.filter(from_template=False)]
    declared["variables"] = [_variable(row, secrets) for row in variables]
    declared["steps"] = [_declared(step) for step in by_moment(project.steps.filter(from_template=False))]
    if sets:
        declared["variable_sets"] = sets
    files = list(project.config_files.filter(from_template=False).select_related("server_group", "server"))
    contents = _names_of_contents(project, [row for row in files if row.is_secret])
    if files:
        declared["config_files"] = [_file(row, contents) for row in files]
    triggers = {name: list(getattr(project, name).prefetch_related("server_groups")) for name in _TRIGGERS}
    questions = questions_of(project) if any(triggers.values()) else []
    answers = _names_of_answers(project, triggers, questions, [*secrets.values(), *contents.values()])
    for name, rows in triggers.items():
        if rows:
            declared[name] = [_trigger(row, questions, answers) for row in rows]
    secrets_of_all = [*secrets.values(), *contents.values(), *answers.values()]
    if project.template is not None:
        declared = {"name": declared.pop("name"), "extends": str(project.template)} | declared
    return as_text({"projects": [declared]}, _notes(project, secrets_of_all))


def template_as_yaml(template: Template) -> str:
    """A template: what differs from what a project has of itself."""
    declared = _declared(template)
    for name, parts in (("health_checks", template.health_checks), ("variables", template.variables)):
        declared[name] = [_declared(part) for part in parts.all()]
    declared["steps"] = [_declared(step) for step in by_moment(template.steps.all())]
    declared["config_files"] = [_spelled(_declared(file), TemplateFile) for file in template.config_files.all()]
    told = {name: value for name, value in declared.items() if value != []}
    return as_text({"templates": [told]}, [_("deployer apply FILE creates the template, or changes it.")])


def channel_as_yaml(channel: Channel) -> str:
    """A channel: each part of its address is the name of an environment variable."""
    kind, declared = KINDS[channel.kind], _declared(channel, "address")
    told = {name: declared.pop(name) for name in ("name", "kind")}
    is_known = not is_unreadable(channel, "address")
    parts = [each.name for each in kind.fields if (each.name in (channel.address or {}) if is_known else each.required)]
    names = _named("channel", channel.name, {part: part.upper() for part in parts})
    told["address_env"] = {part: names[part] for part in parts}
    if not kind.is_mark:
        told["events"] = [*channel.events]  # none is another thing than the usual ones
    told |= {name: value for name, value in declared.items() if value != []}
    notes = [_("Set these environment variables first: %s") % ", ".join(names.values())]
    if told.get("projects"):
        notes.append(_("The projects are not in this file: they must already exist."))
    return as_text({"channels": [told]}, notes)


#: Parts of a project that launch it by themselves.
_TRIGGERS = ("schedules", "webhooks")


def _trigger(row: Trigger, questions: Iterable[Question], names: dict[Any, str]) -> dict[str, Any]:
    """A schedule or a webhook; a secret answer is the name of an environment variable."""
    told = {name: value for name, value in _declared(row, "answers").items() if value not in (None, [])}
    if isinstance(row, Schedule) and row.at is not None:
        wall = row.at.astimezone(row.zone).strftime("%Y-%m-%d %H:%M")
        told["at"] = wall if moment_of(wall, row.zone) == row.at else row.at.astimezone(row.zone).isoformat(" ")
    given = [] if is_unreadable(row, "answers") else [*asked_answers(row, questions)]
    plain = {question.name: answer for question, answer in given if not question.is_secret}
    secret = {question.name: names[type(row), row.pk, question.name] for question, _it in given if question.is_secret}
    return told | ({"answers": plain} if plain else {}) | ({"answers_env": secret} if secret else {})


def _names_of_answers(
    project: Project, triggers: dict[str, list[Any]], questions: list[Question], taken: list[str]
) -> dict[Any, str]:
    """The same of the secret answers that triggers give."""
    wanted = {}
    for row in (each for rows in triggers.values() for each in rows if not is_unreadable(each, "answers")):
        for question in (question for question, _it in asked_answers(row, questions) if question.is_secret):
            own = short_name(f"{row._meta.model_name} {row.name}").replace("-", "_").upper()
            wanted[type(row), row.pk, question.name] = f"{own}_{question.name}"
    return _named("project", project.name, wanted, taken)


def _settings(project: Project) -> list[str]:
    """The settings that a file names: of a project with a template, those that are its own."""
    follows = {*TEMPLATED} - {*project.own_fields} if project.template is not None else set()
    return [name for name in declared_fields(Project) if name not in follows and name != "template"]


def _spelled(declared: dict[str, Any], model: type[models.Model]) -> dict[str, Any]:
    names = {column: name for name, column in SPELLED[model].items()}
    return {names.get(name, name): value for name, value in declared.items()}


def as_text(sections: dict[str, list[dict[str, Any]]], notes: Iterable[str]) -> str:
    """Sections as YAML, with ``notes``, of one line each, as comments at its head."""
    body = yaml.dump(sections, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=2**20, indent=2)
    return "".join(f"# {line}\n" for line in notes) + body


def train_as_yaml(train: Train) -> str:
    """A train with its stops; its projects and groups are named."""
    declared = {name: _value(train, name) for name in declared_fields(Train)}
    stops = train.stops.select_related("project").prefetch_related("server_groups")
    declared["stops"] = [_stop(stop) for stop in stops]
    body = yaml.dump({"trains": [declared]}, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=2**20, indent=2)
    note = _("The projects and the server groups are not in this file: they must already exist.")
    return f"# {note}\n{body}"


def _stop(stop: Stop) -> dict[str, Any]:
    values = {name: _value(stop, name) for name in declared_fields(Stop)}
    return {name: value for name, value in values.items() if value not in ("", [])}


def secret_names(project: Project, variables: list[Variable]) -> dict[int, str]:
    """By the id of each secret variable, the environment variable from which `apply` takes its value."""
    return _named(
        "project", project.name, {row.pk: row.name for row in variables if row.is_secret and not row.value_from}
    )


def _names_of_contents(project: Project, files: list[ConfigFile]) -> dict[int, str]:
    """The same of secret config files."""
    wanted = {row.pk: "FILE_" + short_name(str(row)).replace("-", "_").upper() for row in files}
    return _named("project", project.name, wanted)


def _named(kind: str, owner: str, wanted_by: dict[Any, str], taken: Iterable[str] = ()) -> dict[Any, str]:
    prefix = short_name(owner).replace("-", "_").upper()
    names: dict[Any, str] = {}
    for key, own in wanted_by.items():
        wanted = f"{'' if prefix[0].isalpha() else f'{kind.upper()}_'}{prefix}_{own}"
        others = (f"{wanted}_{number}" for number in count(2))
        used = {*names.values(), *taken}
        names[key] = next(name for name in chain([wanted], others) if name not in used)
    return names


def _notes(project: Project, secrets: list[str]) -> list[str]:
    """The things that must exist before the file is applied."""
    notes = [_("deployer apply FILE creates the project, or changes it to match this file.")]
    if secrets:
        notes.append(_("Set these environment variables first: %s") % ", ".join(secrets))
    if project.git_credential_id:
        notes.append(_("The git credential is not in this file: it must already exist."))
    if project.template_id:
        notes.append(_("The template is not in this file: it must already exist."))
    if project.attached_sets.exists():
        notes.append(_("The variable sets are not in this file: they must already exist."))
    return notes


def _variable(row: Variable, secrets: dict[int, str]) -> dict[str, Any]:
    declared = _declared(row, "value")
    value = {"value_env": secrets[row.pk]} if row.pk in secrets else {"value": row.value}
    if (row.is_prompt or row.value_from) and not row.value:
        value = {}  # it has no default, or another place has it
    return {"name": declared.pop("name"), **value, **declared}


def _file(row: ConfigFile, contents: dict[int, str]) -> dict[str, Any]:
    declared = _declared(row, "content")
    content = {"content_env": contents[row.pk]} if row.pk in contents else {"content": row.content}
    told = {name: value for name, value in _spelled(declared, ConfigFile).items() if value is not None}
    return {"path": told.pop("path"), **content, **told}


def _declared(row: models.Model, *left_out: str) -> dict[str, Any]:
    """The fields of a part or a template that differ from their defaults."""
    values = {name: _value(row, name) for name in declared_fields(type(row)) if name not in left_out}
    return {name: value for name, value in values.items() if value != _unsaid(declared_fields(type(row))[name])}


def _unsaid(field: Any) -> Any:
    """The value of a field that a file does not name."""
    if isinstance(field, models.ForeignKey):
        return None
    return field.get_default() if field.has_default() else ""


def _value(row: models.Model, name: str) -> Any:
    """A value as it is written to a file: another row by its name, a choice as plain text."""
    value = getattr(row, name)
    if isinstance(declared_fields(type(row))[name], models.ManyToManyField):
        return [str(each) for each in value.all()]
    return str(value) if isinstance(value, (str, models.Model)) else value
