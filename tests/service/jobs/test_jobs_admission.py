"""What a spec from the network may name, and what is refused before anything is imported."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from service.jobs.admission import admit, check_webhook
from service.jobs.settings import AllowSettings
from trainers.errors import ConfigError

NOTHING = AllowSettings()
SPEC = {"space": {"optimizer.lr": [0.1, 0.01]}, "rounds": [{"sampler": "grid"}]}


def test_registered_things_are_admitted_and_come_back_validated() -> None:
    spec = admit({**SPEC, "data": {"name": "digits"}, "project": "a:b/c"}, NOTHING)
    assert spec.base.data.name == "digits"


FACTORY = "evil_lib.nets:make"


@pytest.mark.parametrize(
    "named",
    [
        {"model": {"factory": FACTORY}},
        {"model.factory": FACTORY},
        {"model": {"kind": "custom", "factory": FACTORY}},
        {"space": {"model.factory": [FACTORY, "torch.nn:Linear"]}},
        {"start_from": {"baseline": {"model.factory": FACTORY}}},
        {"start_from": {"configs": [{"model": {"factory": FACTORY}}]}},
        {"rounds": [{"trials": 2, "space": {"model.factory": [FACTORY]}}]},
    ],
)
def test_factories_are_refused_wherever_they_stand_and_never_imported(
    named: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil_lib").mkdir()
    (tmp_path / "evil_lib" / "__init__.py").write_text("")
    (tmp_path / "evil_lib" / "nets.py").write_text("raise RuntimeError('it was run')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match=r"factory.*an admin allowed \(none yet\).*evil_lib"):
        admit({**SPEC, **named}, NOTHING)
    assert "evil_lib.nets" not in sys.modules


def test_an_allowed_prefix_admits_its_factories_only() -> None:
    allow = AllowSettings(factories=("plates_lib.*",))
    assert admit({**SPEC, "model": {"factory": "plates_lib.nets:make"}}, allow)
    with pytest.raises(ConfigError, match=r"allowed \(plates_lib\.\*\)"):
        admit({**SPEC, "model": {"factory": "plates_library:make"}}, allow)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b", "..", ".hidden", "a\\b"])
def test_data_is_named_and_no_path(name: str) -> None:
    with pytest.raises(ConfigError, match="registered data"):
        admit({**SPEC, "data": {"name": name}}, NOTHING)


@pytest.mark.parametrize("key", ["trials", "baseline"])
def test_files_are_read_from_allowed_folders_only(key: str, tmp_path: Path) -> None:
    allowed, outside = tmp_path / "allowed", tmp_path / "outside.yaml"
    allowed.mkdir()
    outside.write_text("optimizer.lr: 0.1\n")
    (allowed / "link.yaml").symlink_to(outside)
    allow = AllowSettings(data_dirs=(allowed,))
    for path in (outside, allowed / ".." / "outside.yaml", allowed / "link.yaml"):
        with pytest.raises(
            ConfigError, match=rf"start_from\.{key}` may name a file in the folders"
        ):
            admit({**SPEC, "start_from": {key: str(path)}}, allow)
    with pytest.raises(ConfigError, match="may name a file"):  # a database is no file
        admit({**SPEC, "start_from": {key: f"sqlite:///{allowed}/study.db"}}, allow)


def test_an_allowed_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "today.yaml").write_text("optimizer.lr: 0.05\n")
    allow = AllowSettings(data_dirs=(tmp_path,))
    spec = admit({**SPEC, "start_from": {"baseline": str(tmp_path / "today.yaml")}}, allow)
    assert spec.start_from is not None
    assert spec.start_from.baseline == {"optimizer": {"lr": 0.05}}
    (tmp_path / "today.yaml").write_text(f"model.factory: {FACTORY}\n")
    with pytest.raises(ConfigError, match="may name what an admin allowed"):
        admit({**SPEC, "start_from": {"baseline": str(tmp_path / "today.yaml")}}, allow)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"name": "x" * 300_000}, "may have 256 kB here, but this one has 293"),
        ({**SPEC, "kind": "service"}, "kind search or study, but got 'service'"),
        ({**SPEC, "kind": ["search"]}, "kind search"),
        ({**SPEC, "rounds": [{"sampler": "random", "trials": 200_000}]}, "plans 200000"),
        ({"space": {1: {2: 3}}}, "."),
    ],
)
def test_what_is_too_large_or_of_another_kind_is_refused(
    spec: dict[str, object], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        admit(spec, NOTHING)


def test_a_spec_that_contains_itself_is_refused() -> None:
    endless: dict[str, object] = {}
    endless["space"] = endless
    with pytest.raises(ConfigError, match="plain nested values"):
        admit(endless, NOTHING)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/x", "ftp://hooks.org/x", "hooks.org", "http://hooks.org.evil.com"]
)
def test_webhooks_call_allowed_hosts_only(url: str) -> None:
    allow = AllowSettings(webhook_hosts=("hooks.org",))
    with pytest.raises(ConfigError, match=r"\(hooks\.org\)"):
        check_webhook(url, allow)
    check_webhook("https://hooks.org:8443/x?y", allow)
    check_webhook(None, NOTHING)
