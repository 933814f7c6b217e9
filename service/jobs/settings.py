"""`kind: service`: where the service listens, which cluster it uses, and what it allows."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from service.energy.site import Site
from service.search.spec_explain import explain_spec, refuse_other_kind
from service.search.yaml_loading import read_yaml
from trainers.errors import ConfigError
from trainers.sections import Count, Positive, Section

DEFAULT_PRIORITIES = {"debug": 100, "normal": 50, "sweep": 10}
Port = Annotated[int, Field(ge=0, le=65535)]


class ListenSettings(Section):
    """Where browsers and clients reach the service."""

    host: str = "127.0.0.1"
    port: Port = 8700
    """0: any free port."""
    tls_cert: Path | None = None
    tls_key: Path | None = None

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @model_validator(mode="after")
    def _both_halves_of_tls(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError(
                "`listen.tls_cert` and `listen.tls_key` belong together, but one is missing; "
                "name both files, or neither"
            )
        return self


class ClusterSettings(Section):
    """The Ray cluster. Without an address the service starts a head of its own on loopback."""

    address: str | None = None
    """Of Ray's dashboard, which serves the Jobs API: `http://ray-head:8265`."""
    token_file: Path | None = None
    """A file with the cluster's token (`RAY_AUTH_MODE=token`)."""

    @field_validator("address")
    @classmethod
    def _is_a_url(cls, address: str | None) -> str | None:
        if address is not None and not address.startswith(("http://", "https://")):
            raise ValueError(
                f"`cluster.address` must be the URL of Ray's dashboard, but got {address!r}; "
                "e.g. http://ray-head:8265"
            )
        return address


class LedgerSettings(Section):
    """Where everything is recorded."""

    url: str | None = None
    url_file: Path | None = None
    """A file that holds the URL, so that a password stands in no config."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.url is not None and self.url_file is not None:
            raise ValueError("`ledger` takes `url` or `url_file`, but has both; keep one")
        return self

    def resolved(self) -> str:
        """Return the URL or path.

        Raises:
            ConfigError: if `url_file` cannot be read.

        """
        if self.url_file is None:
            return self.url or "isoflop.db"
        return _secret(self.url_file, "ledger.url_file")


class KeepSettings(Section):
    """What `isoflop gc` leaves of ended searches' checkpoints."""

    checkpoints: Literal["best_and_last"] = "best_and_last"
    """Of each trial, while its search runs and after: its best and its last state."""
    days: Positive | None = None
    """Checkpoints of searches that ended longer ago go; None: they stay."""
    max_gb: Positive | None = None
    """The oldest ended searches' checkpoints go first until so much is left; None: no limit."""


class StorageSettings(Section):
    """The folder of reports and checkpoints; on a cluster all nodes must see it."""

    path: Path = Path("runs")
    keep: KeepSettings = KeepSettings()

    @field_validator("path", mode="before")
    @classmethod
    def _is_a_folder(cls, path: Any) -> Any:
        if "://" in str(path):
            raise ValueError(
                f"`storage.path` must be a folder that all nodes see, but got {str(path)!r}; "
                "mount the bucket and name the mount"
            )
        return path


class TrustedHeaderSettings(Section):
    """Sign-in by a proxy in front, which has checked who the user is."""

    name: str
    """The header that holds the user's name, e.g. X-Auth-Request-Email."""
    proxies: tuple[str, ...] = Field(min_length=1)
    """Addresses whose header is believed; from anywhere else it is ignored."""

    @field_validator("proxies")
    @classmethod
    def _are_addresses(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            try:
                ipaddress.ip_network(proxy, strict=False)
            except ValueError:
                raise ValueError(
                    f"`sign_in.trusted_header.proxies` must be addresses or networks, but got "
                    f"{proxy!r}; e.g. 10.0.0.2 or 10.0.0.0/24"
                ) from None
        return proxies

    def trusts(self, address: str) -> bool:
        """Say whether a request's peer is one of the proxies."""
        try:
            peer = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(peer in ipaddress.ip_network(proxy, strict=False) for proxy in self.proxies)


class SignInSettings(Section):
    """How users prove who they are."""

    tokens: bool = True
    trusted_header: TrustedHeaderSettings | None = None
    session_hours: Positive = 12.0


class AllowSettings(Section):
    """What a spec from the network may name, and how large it may be."""

    factories: tuple[str, ...] = ()
    """Patterns of `package.module:function`, e.g. `plates_lib.*`; empty: none."""
    data_dirs: tuple[Path, ...] = ()
    """Folders whose files a spec may name; empty: registered data only."""
    max_spec_kb: Count = 256
    max_trials: Count = 100_000
    webhook_hosts: tuple[str, ...] = ()
    """Hosts that a job's webhook may call, e.g. `hooks.example.org`; empty: none."""

    def factory(self, name: str) -> bool:
        """Say whether a factory may be named."""
        return any(fnmatchcase(name, pattern) for pattern in self.factories)

    def file(self, path: str | Path) -> bool:
        """Say whether a file lies in an allowed folder, links followed."""
        real = Path(path).resolve()
        return any(real.is_relative_to(folder.resolve()) for folder in self.data_dirs)


class QuotaSettings(Section):
    """What one user may hold at a time, and use in a month."""

    max_workers: Count = 16
    max_jobs: Count = 4
    kwh_per_month: Positive | None = None


class QueueSettings(Section):
    """Who goes first."""

    priorities: Mapping[str, int] = Field(default_factory=lambda: dict(DEFAULT_PRIORITIES))
    """Class -> rank; the higher rank gets the next free worker."""
    per_user: QuotaSettings = QuotaSettings()

    @field_validator("priorities")
    @classmethod
    def _has_normal(cls, priorities: Mapping[str, int]) -> Mapping[str, int]:
        if "normal" not in priorities:
            raise ValueError(
                "`queue.priorities` must hold `normal`, the class of a job that names none, but "
                f"has {', '.join(priorities) or 'nothing'}; add normal: 50"
            )
        return priorities


class SiteSettings(Section):
    """Where some hosts stand, for CO2."""

    hosts: str
    """Pattern of host names, e.g. `gpu-fra-*`."""
    country: str
    pue: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.0

    @model_validator(mode="after")
    def _country_is_known(self) -> Self:
        self.site()
        return self

    def site(self) -> Site:
        """Return country, PUE and carbon intensity."""
        return Site.from_environment(
            {"ISOFLOP_COUNTRY": self.country, "ISOFLOP_PUE": str(self.pue)}
        )


class ServiceSettings(Section):
    """Everything `isoflop serve --config` reads."""

    kind: Literal["service"] = "service"
    listen: ListenSettings = ListenSettings()
    cluster: ClusterSettings = ClusterSettings()
    ledger: LedgerSettings = LedgerSettings()
    storage: StorageSettings = StorageSettings()
    sign_in: SignInSettings = SignInSettings()
    allow: AllowSettings = AllowSettings()
    queue: QueueSettings = QueueSettings()
    sites: Mapping[str, SiteSettings] = Field(default_factory=dict)

    @classmethod
    def from_yaml(cls, path: str | Path) -> Self:
        """Read a config file.

        Raises:
            ConfigError: naming the rule, the value, the next step and the line.

        """
        document = read_yaml(path)
        try:
            return cls.from_mapping(document.mapping)
        except ConfigError as error:
            raise ConfigError(document.locate(str(error))) from None

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """Read plain values.

        Raises:
            ConfigError: naming the rule, the value and the next step.

        """
        refuse_other_kind(mapping, "service")
        try:
            return cls.model_validate(dict(mapping))
        except ValidationError as error:
            raise ConfigError(explain_spec(error, cls)) from None

    def cluster_token(self) -> str | None:
        """Return the cluster's token, if a file names one.

        Raises:
            ConfigError: if the file cannot be read.

        """
        if self.cluster.token_file is None:
            return None
        return _secret(self.cluster.token_file, "cluster.token_file")

    def site_of(self, host: str) -> Site | None:
        """Return where a host stands, or None if no site names it."""
        for site in self.sites.values():
            if fnmatchcase(host, site.hosts):
                return site.site()
        return None


def _secret(path: Path, key: str) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(
            f"`{key}` must name a readable file, but {path} is not ({error.strerror})"
        ) from None
    if not text:
        raise ConfigError(f"`{key}` must name a file with one line, but {path} is empty")
    return text
