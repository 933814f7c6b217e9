"""What a spec from the network may name: registered things, and what the admin allowed.

A spec on one's own machine may name any factory and any file, because its author could run them
anyway. One from the network runs with the service's rights, so it is read with other eyes before
anything is built from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, get_args
from urllib.parse import urlsplit

from service.jobs.kinds import JobSpec, parse_spec, plan_rows
from service.jobs.records import JobKind
from service.jobs.settings import AllowSettings
from trainers.errors import ConfigError, nearest

KINDS: tuple[JobKind, ...] = get_args(JobKind)


def admit(mapping: Mapping[str, Any], allow: AllowSettings) -> JobSpec:
    """Return the spec of a request, validated, or refuse it.

    Nothing that the spec names is imported or opened before it has been allowed.

    Raises:
        ConfigError: naming the rule, the value and the next step.

    """
    _check_size(mapping, allow)
    kind = mapping.get("kind", "search")
    if kind not in KINDS:
        raise ConfigError(
            f"a job's spec is of kind {' or '.join(KINDS)}, but got {kind!r}"
            f"{nearest(str(kind), KINDS)}"
        )
    for path, value in _leaves(mapping):
        _check_factory(path, value, allow)
        _check_file(path, value, allow)
    spec = parse_spec(kind, mapping)
    for path, value in _leaves(spec.to_mapping()):  # what stood in a file that it named
        _check_factory(path, value, allow)
    planned = sum(row["trials"] for row in plan_rows(spec))
    if planned > allow.max_trials:
        raise ConfigError(
            f"a job may plan {allow.max_trials} trials here, but this one plans {planned}; "
            "plan fewer, or ask an admin to raise `allow.max_trials`"
        )
    return spec


def check_webhook(url: str | None, allow: AllowSettings) -> None:
    """Refuse a webhook to a host that the admin has not named: the service would call it.

    Raises:
        ConfigError: with the hosts that are allowed.

    """
    if url is None:
        return
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or parts.hostname not in allow.webhook_hosts:
        hosts = ", ".join(allow.webhook_hosts) or "none yet"
        raise ConfigError(
            f"a webhook may call the hosts that an admin allowed ({hosts}), but got {url[:100]!r}; "
            "ask an admin to add it to `allow.webhook_hosts`"
        )


def _check_size(mapping: Mapping[str, Any], allow: AllowSettings) -> None:
    try:
        num_bytes = len(json.dumps(mapping, default=str).encode())
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"a spec is plain nested values, but this one is not: {error}") from None
    if num_bytes > allow.max_spec_kb * 1024:
        raise ConfigError(
            f"a spec may have {allow.max_spec_kb} kB here, but this one has "
            f"{num_bytes / 1024:.0f}; leave out what is default, or ask an admin to raise "
            "`allow.max_spec_kb`"
        )


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every value that is no container, with the names that lead to it.

    Dotted names count as several, so that `model.factory: x`, `{model: {factory: x}}` and a choice
    of factories in `space` are all seen as what they are.
    """
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, *str(key).split(".")))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(inner, path)
    else:
        yield path, value


def _check_factory(path: tuple[str, ...], value: Any, allow: AllowSettings) -> None:
    if "factory" in path and value is not None and not allow.factory(str(value)):
        allowed = ", ".join(allow.factories) or "none yet"
        raise ConfigError(
            f"`{'.'.join(path)}` may name what an admin allowed ({allowed}), but got "
            f"{str(value)[:100]!r}; use a built-in model, or ask an admin to add its package to "
            "`allow.factories`"
        )


def _check_file(path: tuple[str, ...], value: Any, allow: AllowSettings) -> None:
    if not isinstance(value, str):
        return
    is_data = path[-2:] == ("data", "name")
    if is_data and ("/" in value or "\\" in value or value.startswith(".")):
        raise ConfigError(
            f"`data.name` names registered data here, but got {value[:100]!r}; register it once "
            "on the cluster: isoflop data add NAME PATH --target COLUMN"
        )
    if path[:1] == ("start_from",) and path[1:] in (("baseline",), ("trials",)):
        if "://" not in value and allow.file(value):
            return
        folders = ", ".join(str(folder) for folder in allow.data_dirs) or "none yet"
        raise ConfigError(
            f"`{'.'.join(path)}` may name a file in the folders that an admin allowed ({folders}), "
            f"but got {value[:100]!r}; write the values into the spec, or ask an admin to add its "
            "folder to `allow.data_dirs`"
        )
