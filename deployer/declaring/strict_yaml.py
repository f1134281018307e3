"""YAML read safely and literally: values stay as they are written, and a key that appears twice is an error."""

from typing import Any

import yaml
from django.utils.translation import gettext as _


class NotYamlError(Exception):
    """Text that is not YAML, or not one document of it. The message never quotes the text: it may hold secrets."""


class _Loader(yaml.SafeLoader):
    """`yaml.SafeLoader` that guesses no types but null: `yes`, `1.10` and `0755` stay what was written.

    The caller decides the type of a value, so a branch called 1.10 stays one.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, _("the key “%(key)s” appears twice") % {"key": key.value}, key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.endswith((":null", ":merge"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load(data: bytes) -> Any:
    """The one document in ``data``: dicts, lists, text and None. Raises `NotYamlError`."""
    try:
        return yaml.load(data, _Loader)  # noqa: S506 (a safe loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = (
            _("line %(line)s, column %(column)s") % {"line": mark.line + 1, "column": mark.column + 1} if mark else ""
        )
        raise NotYamlError(f"{where}: {error.problem or error.context}".lstrip(": ")) from error
    except yaml.YAMLError as error:
        raise NotYamlError(_("it is not text in UTF-8, or contains characters that YAML does not allow")) from error
    except RecursionError as error:
        raise NotYamlError(_("it is nested too deeply")) from error
    except ValueError as error:  # a tag like !!int on something else
        raise NotYamlError(_("a value does not fit the tag before it")) from error
