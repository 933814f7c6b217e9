"""Specs that arrive over the network: as a mapping, or as the YAML text that somebody wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from service.search.yaml_loading import YamlDocument, parse_yaml
from trainers.errors import ConfigError


@contextmanager
def spec_mapping(spec: Mapping[str, Any] | str) -> Iterator[dict[str, Any]]:
    """Give a spec's plain values; faults found in the body say on which line of the text.

    Raises:
        ConfigError: if the text is no YAML or no mapping, or whatever the body raises.

    """
    document = _read(spec)
    try:
        yield document.mapping
    except ConfigError as error:
        if not document.lines:
            raise
        raise ConfigError(document.locate(str(error))) from None


def _read(spec: Mapping[str, Any] | str) -> YamlDocument:
    if isinstance(spec, str):
        return parse_yaml(spec, source="spec")
    return YamlDocument(dict(spec), "spec")
