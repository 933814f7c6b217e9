"""Read spec files: YAML 1.2, with the line of every key, and with limits on size and depth.

YAML 1.2 reads `1e-4` as a number and `NO` and `on` as text, also inside lists; the more common
YAML 1.1 parsers get these wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from trainers.errors import ConfigError

MAX_FILE_BYTES = 256_000
MAX_VALUES = 50_000
"""Most values that a file may hold once its aliases are written out."""
MAX_DEPTH = 30
MAX_NUMBER_LENGTH = 400
"""No number of a spec needs more characters; Python refuses to read very long ones."""

_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True)
class YamlDocument:
    """A file's plain values, and where each dotted path stands."""

    mapping: dict[str, Any]
    source: str
    lines: Mapping[str, int] = field(default_factory=dict)
    """Dotted path -> line, from 1. Items of lists are counted from 0: `rounds.0.epochs`."""

    def locate(self, message: str) -> str:
        """Append to each line of an error message where the paths named in backticks stand."""
        return "\n".join(self._located(line) for line in message.splitlines())

    def _located(self, text: str) -> str:
        named = dict.fromkeys(path for path in re.findall(r"`([^`]+)`", text) if path in self.lines)
        if not named:
            return f"{self.source}: {text}"
        numbers = [str(number) for number in sorted({self.lines[path] for path in named})]
        word = "line" if len(numbers) == 1 else "lines"
        return f"{self.source}, {word} {' and '.join(numbers)}: {text}"


def read_yaml(path: str | Path) -> YamlDocument:
    """Read one YAML file whose top level is a mapping.

    Raises:
        ConfigError: if the file is missing, larger than `MAX_FILE_BYTES` (it is then not read),
            no YAML, no mapping, or gives one path twice.

    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(
            f"a spec must be a readable file, but {path} is not ({reason}); check the path"
        ) from None
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(
            f"a spec file has at most {MAX_FILE_BYTES / 1e3:g} kB, but {path} has "
            f"{max(path.stat().st_size, len(content)) / 1e6:.3g} MB; "
            "is it a data file? Name data by `data.name`"
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"a spec must be UTF-8 text, but {path} is not (byte {error.start}); save it as UTF-8"
        ) from None
    return parse_yaml(text, source=str(path))


def parse_yaml(text: str, source: str = "spec") -> YamlDocument:
    """Read YAML text whose top level is a mapping.

    Raises:
        ConfigError: as `read_yaml`.

    """
    node = _compose(text, source)
    if node is None:
        raise ConfigError(f"{source} is empty; `isoflop init` writes a spec to start from")
    if not isinstance(node, MappingNode):
        kind = "a list" if isinstance(node, SequenceNode) else f"the text {str(node.value)[:40]!r}"
        raise ConfigError(
            f"the top level of {source} must be a mapping `key: value`, but it is {kind}; "
            "`isoflop init` writes a spec to start from"
        )
    builder = _Builder(source)
    mapping = builder.value(node, "", 0)
    return YamlDocument(mapping, source, builder.lines)


def parse_value(text: str) -> Any:
    """Read one YAML value, as in `--set optimizer.lr=1e-3`; an empty text is empty text."""
    node = _compose(text, "value")
    return "" if node is None else _Builder("value").value(node, "", 0)


def dump_yaml(mapping: Mapping[str, Any]) -> str:
    """Write plain values as YAML 1.2 that `parse_yaml` reads back equal."""
    from io import StringIO

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    stream = StringIO()
    yaml.dump(dict(mapping), stream)
    return stream.getvalue()


def _compose(text: str, source: str) -> Node | None:
    try:
        node: Node | None = YAML(typ="safe", pure=True).compose(text)
        return node
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        where = f"{source}, line {mark.line + 1}" if mark is not None else source
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(
            f"{where}: this is not YAML ({problem}); check indentation, quotes and colons"
        ) from None
    except RecursionError:
        raise ConfigError(f"{source} nests too deeply to be a spec; flatten it") from None


class _Builder:
    """Turn nodes into plain values and note the line of each path."""

    def __init__(self, source: str) -> None:
        self.lines: dict[str, int] = {}
        self._source = source
        self._values_left = MAX_VALUES
        self._scalars: SafeConstructor = YAML(typ="safe", pure=True).constructor

    def value(self, node: Node, path: str, depth: int) -> Any:
        self._values_left -= 1
        if self._values_left < 0 or depth > MAX_DEPTH:
            limit = f"{MAX_VALUES:,} values" if depth <= MAX_DEPTH else f"{MAX_DEPTH} levels"
            raise ConfigError(
                f"{self._source} holds more than {limit} once its aliases are written out; "
                "a spec needs far fewer"
            )
        if not isinstance(node, ScalarNode) and node.tag not in (f"{_TAG}map", f"{_TAG}seq"):
            raise self._bad_tag(node)
        if isinstance(node, MappingNode):
            return dict(self._items(node, path, depth))
        if isinstance(node, SequenceNode):
            items = []
            for index, item in enumerate(node.value):
                below = f"{path}.{index}" if path else str(index)
                self.lines[below] = item.start_mark.line + 1
                items.append(self.value(item, below, depth + 1))
            return items
        return self._scalar(node)

    def _items(self, node: MappingNode, path: str, depth: int) -> Iterator[tuple[str, Any]]:
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                raise ConfigError(f"{self._at(key_node)}: a key must be text, but is a collection")
            if key_node.tag == f"{_TAG}merge":
                raise ConfigError(
                    f"{self._at(key_node)}: merge keys (`<<`) are not supported; "
                    "write the keys out, so that each has one line"
                )
            key = str(key_node.value)
            below = f"{path}.{key}" if path else key
            line = key_node.start_mark.line + 1
            before = self.lines.get(below)
            if before is not None:
                raise ConfigError(
                    f"{self._source}, lines {before} and {line}: `{below}` is given twice; keep one"
                )
            self.lines[below] = line
            yield key, self.value(value_node, below, depth + 1)

    def _scalar(self, node: Node) -> Any:
        tag, text = str(node.tag), node.value
        if tag in (f"{_TAG}int", f"{_TAG}float") and len(text) > MAX_NUMBER_LENGTH:
            raise ConfigError(
                f"{self._at(node)}: a number has at most {MAX_NUMBER_LENGTH} characters, but this "
                f"one has {len(text)}; write it shorter, as `1e-4`, or quote it if it is text"
            )
        if tag == f"{_TAG}null":
            return None
        if tag == f"{_TAG}bool":
            return self._scalars.construct_yaml_bool(node)
        if tag == f"{_TAG}int":
            return int(self._scalars.construct_yaml_int(node))
        if tag == f"{_TAG}float":
            return float(self._scalars.construct_yaml_float(node))
        if tag in (f"{_TAG}str", f"{_TAG}timestamp"):
            return str(text)
        raise self._bad_tag(node)

    def _bad_tag(self, node: Node) -> ConfigError:
        return ConfigError(f"{self._at(node)}: the tag {str(node.tag)!r} is not allowed; remove it")

    def _at(self, node: Node) -> str:
        return f"{self._source}, line {node.start_mark.line + 1}"
