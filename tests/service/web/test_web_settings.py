"""The service's config: what it accepts, and how it refuses."""

import pytest

from service.jobs.settings import ServiceSettings
from trainers.errors import ConfigError

EXAMPLE = """
kind: service
listen: {host: 10.0.0.5, port: 8443, tls_cert: tls.crt, tls_key: tls.key}
cluster: {address: "http://ray-head:8265", token_file: ray_token}
ledger: {url_file: ledger_url}
storage: {path: /shared/isoflop, keep: {checkpoints: best_and_last, days: 30, max_gb: 2000}}
sign_in: {tokens: true, trusted_header: {name: X-Auth-Request-Email, proxies: [10.0.0.2]}}
allow: {factories: ["plates_lib.*"], data_dirs: [/shared/data], max_spec_kb: 256}
queue:
  priorities: {debug: 100, normal: 50, sweep: 10}
  per_user: {max_workers: 8, max_jobs: 4, kwh_per_month: 200}
sites:
  fra1: {hosts: "gpu-fra-*", country: FRA, pue: 1.25}
  hel1: {hosts: "gpu-hel-*", country: FIN, pue: 1.15}
"""


def test_the_documented_example_is_read(tmp_path):
    path = tmp_path / "service.yaml"
    path.write_text(EXAMPLE)
    settings = ServiceSettings.from_yaml(path)
    assert not settings.listen.is_loopback
    assert settings.queue.per_user.kwh_per_month == 200
    assert settings.sign_in.trusted_header.trusts("10.0.0.2")
    assert not settings.sign_in.trusted_header.trusts("10.0.0.3")
    assert settings.allow.factory("plates_lib.nets:make_net")
    assert not settings.allow.factory("os:system")
    assert settings.site_of("gpu-hel-7").country == "FIN"
    assert settings.site_of("laptop") is None


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.0.1"])
def test_loopback_is_recognised(host):
    assert ServiceSettings(listen={"host": host}).listen.is_loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "example.org", "::"])
def test_everything_else_can_be_reached(host):
    assert not ServiceSettings(listen={"host": host}).listen.is_loopback


@pytest.mark.parametrize(
    ("mapping", "says"),
    [
        ({"listn": {}}, "did you mean `listen`"),
        ({"listen": {"prot": 1}}, "did you mean `port`"),
        ({"listen": {"port": 70000}}, "listen.port"),
        ({"listen": {"tls_cert": "a"}}, "belong together"),
        ({"cluster": {"address": "ray-head:8265"}}, "must be the URL"),
        ({"ledger": {"url": "a", "url_file": "b"}}, "keep one"),
        ({"storage": {"path": "s3://bucket"}}, "mount the bucket"),
        ({"sign_in": {"trusted_header": {"name": "X", "proxies": ["proxy"]}}}, "addresses or net"),
        ({"sign_in": {"trusted_header": {"name": "X", "proxies": []}}}, "proxies"),
        ({"queue": {"priorities": {"debug": 1}}}, "must hold `normal`"),
        ({"queue": {"per_user": {"kwh_per_month": -1}}}, "kwh_per_month"),
        ({"sites": {"a": {"hosts": "x", "country": "FRX"}}}, "did you mean"),
        ({"sites": {"a": {"hosts": "x", "country": "FRA", "pue": 0.5}}}, "pue"),
        ({"kind": "search"}, "kind"),
    ],
)
def test_faults_are_named(mapping, says):
    with pytest.raises(ConfigError, match=says):
        ServiceSettings.from_mapping(mapping)


def test_a_fault_in_a_file_names_its_line(tmp_path):
    path = tmp_path / "service.yaml"
    path.write_text("kind: service\nlisten:\n  port: 99999\n")
    with pytest.raises(ConfigError, match="line 3"):
        ServiceSettings.from_yaml(path)


def test_files_are_allowed_only_below_named_folders(tmp_path):
    inside, outside = tmp_path / "data", tmp_path / "secret"
    inside.mkdir()
    outside.mkdir()
    (outside / "keys.csv").write_text("a")
    (inside / "link.csv").symlink_to(outside / "keys.csv")
    (inside / "own.csv").write_text("a")
    allow = ServiceSettings(allow={"data_dirs": [inside]}).allow
    assert allow.file(inside / "own.csv")
    assert not allow.file(inside / "link.csv")
    assert not allow.file(inside / ".." / "secret" / "keys.csv")
    assert not ServiceSettings().allow.file(inside / "own.csv")


def test_secrets_come_from_files_that_exist(tmp_path):
    settings = ServiceSettings(ledger={"url_file": tmp_path / "none"})
    with pytest.raises(ConfigError, match=r"ledger\.url_file"):
        settings.ledger.resolved()
    (tmp_path / "url").write_text("postgresql://u:p@h/d\n")
    settings = ServiceSettings(ledger={"url_file": tmp_path / "url"})
    assert settings.ledger.resolved() == "postgresql://u:p@h/d"
    (tmp_path / "empty").write_text("\n")
    settings = ServiceSettings(cluster={"token_file": tmp_path / "empty"})
    with pytest.raises(ConfigError, match="is empty"):
        settings.cluster_token()
