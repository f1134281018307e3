"""YAML read safely and literally: values stay as they are written, and a key that appears twice is an error.

Aliases and merge keys let a few lines stand for millions of values, so a document is weighed while it is read: each
node counts with all that it repeats. Nothing is built of a document that is too large, too deep or in itself.
"""

from typing import Any

import yaml
from django.utils.translation import gettext as _

#: Bytes of a file, levels of nesting, and keys and values with all repetitions, that a document has at most.
MOST_BYTES = 4 * 2**20
MOST_LEVELS = 50
MOST_VALUES = 200_000


class NotYamlError(Exception):
    """Text that is not YAML, or not one document of it. The message never quotes the text: it may hold secrets."""


class _Loader(yaml.SafeLoader):
    """`yaml.SafeLoader` that guesses no types but null: `yes`, `1.10` and `0755` stay what was written.

    The caller decides the type of a value, so a branch called 1.10 stays one.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._level = 0
        #: Of each node that is whole: how many keys and values it stands for, and on how many levels.
        self._weights: dict[int, tuple[int, int]] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs leave it open
        if self._level == MOST_LEVELS:
            raise _too_deep(event.start_mark)
        self._level += 1
        node = super().compose_node(parent, index)
        self._level -= 1
        if node is not None:
            self._weigh(node, event)
        return node

    def _weigh(self, node: yaml.Node, event: yaml.Event) -> None:
        known = self._weights.get(id(node))
        if known is None:
            if isinstance(event, yaml.AliasEvent):
                raise _refused(_("“*%s” is repeated within itself") % event.anchor, event.start_mark)
            known = self._weights[id(node)] = self._weight_of(node)
        weight, levels = known
        if weight > MOST_VALUES:
            message = _("aliases (*) and merge keys (<<) included, it has more than %d keys and values")
            raise _refused(message % MOST_VALUES, event.start_mark)
        if self._level + levels > MOST_LEVELS:
            raise _too_deep(event.start_mark)

    def _weight_of(self, node: yaml.Node) -> tuple[int, int]:
        if isinstance(node, yaml.ScalarNode):
            return 1, 1
        pairs = node.value if isinstance(node, yaml.MappingNode) else [(each,) for each in node.value]
        within = [self._weights[id(each)] for pair in pairs for each in pair]
        return 1 + sum(weight for weight, _levels in within), 1 + max((levels for _weight, levels in within), default=0)

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise _refused(_("the key “%(key)s” appears twice") % {"key": key.value}, key.start_mark)
                seen.add(key.value)
        return node


def _refused(message: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.composer.ComposerError(None, None, message, mark)


def _too_deep(mark: Any) -> yaml.MarkedYAMLError:
    return _refused(_("it is nested too deeply: at most %d levels") % MOST_LEVELS, mark)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.endswith((":null", ":merge"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load(data: bytes) -> Any:
    """The one document in ``data``: dicts, lists, text and None. Raises `NotYamlError`."""
    if len(data) > MOST_BYTES:
        raise NotYamlError(_("it is larger than %d MB: divide it into several files") % (MOST_BYTES >> 20))
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
    except (ValueError, LookupError, AttributeError, OverflowError) as error:  # a tag like !!int on something else
        raise NotYamlError(_("a value does not fit the tag before it")) from error
