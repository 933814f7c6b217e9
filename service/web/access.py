"""Who asks: by token, by a browser's session, by a trusted proxy, or locally.

Without any user the service is a single person's: it serves loopback only, and that person is an
admin named `local`. With users, everybody proves who he is.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Depends, Request

from service.jobs.records import SessionRecord, UserRecord
from service.ledger import Ledger
from service.web.problems import Problem
from service.web.security import LOOPBACK_NAMES, SAFE_METHODS, host_name, is_same_origin
from service.web.services import Services, services_of

SESSION_COOKIE = "isoflop_session"
LOCAL_USER = UserRecord(user_id="local", role="admin", projects=("*",))
MAX_FAILURES = 10
WINDOW_S = 60.0
MAX_ADDRESSES = 10_000


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who asks, and how that was proven."""

    user: UserRecord
    via: Literal["token", "session", "proxy", "local"]
    session: SessionRecord | None = None


class FailureLimit:
    """Counts failed sign-ins per address, so that tokens cannot be guessed at speed."""

    def __init__(self, most: int = MAX_FAILURES, window_s: float = WINDOW_S) -> None:
        self._most, self._window_s = most, window_s
        self._failures: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def check(self, address: str) -> None:
        """Refuse an address that failed too often of late.

        Raises:
            Problem: 429, with the seconds to wait.

        """
        with self._lock:
            recent = self._recent(address)
            if len(recent) >= self._most:
                wait = int(self._window_s - (time.monotonic() - recent[0])) + 1
                raise Problem(
                    429,
                    f"{len(recent)} sign-ins from {address} failed within {self._window_s:g} s; "
                    f"try again in {wait} s",
                    headers={"Retry-After": str(wait)},
                )

    def fail(self, address: str) -> None:
        """Count a failure."""
        with self._lock:
            if len(self._failures) >= MAX_ADDRESSES:
                self._failures = {a: f for a in list(self._failures) if (f := self._recent(a))}
            self._failures.setdefault(address, deque(maxlen=self._most)).append(time.monotonic())

    def _recent(self, address: str) -> deque[float]:
        recent = self._failures.get(address, deque())
        while recent and time.monotonic() - recent[0] > self._window_s:
            recent.popleft()
        return recent


def address_of(request: Request) -> str:
    """Return the address of the peer; a header that it sends is not believed."""
    return request.client.host if request.client is not None else ""


def identify(request: Request) -> Identity | None:
    """Return who asks, or None: nobody is signed in.

    Raises:
        Problem: 401 for a wrong token, 403 for a write from elsewhere, 429 after many failures.

    """
    services = services_of(request)
    header = request.headers.get("authorization")
    if header is not None:
        return _by_token(request, services, header)
    if services.single_user:
        return _local(request)
    found = _by_proxy(request, services) or _by_session(request, services.ledger)
    if found is not None:
        refuse_foreign_writes(request)
    return found


def _local(request: Request) -> Identity:
    """Serve the one person of this machine; other sites' scripts reach loopback too."""
    if host_name(request) not in LOOPBACK_NAMES:
        raise Problem(
            403,
            "without users the service answers on loopback only; open it as http://127.0.0.1, "
            "or add users with `isoflop users add`",
        )
    refuse_foreign_writes(request)
    return Identity(user=LOCAL_USER, via="local")


def refuse_foreign_writes(request: Request) -> None:
    """Refuse a write that another site's page made a browser send.

    Raises:
        Problem: 403.

    """
    if request.method not in SAFE_METHODS and not is_same_origin(request):
        raise Problem(403, "a write must come from this service's own pages, or carry a token")


def _by_token(request: Request, services: Services, header: str) -> Identity:
    scheme, _, token = header.partition(" ")
    address = address_of(request)
    services.failures.check(address)
    user = services.ledger.user_of_token(token.strip()) if scheme.lower() == "bearer" else None
    if user is None or not services.settings.sign_in.tokens:
        services.failures.fail(address)
        services.ledger.audit(
            user_id="anonymous", action="sign_in", target="", outcome="refused", address=address
        )
        raise Problem(
            401,
            "the token is unknown, expired or revoked; ask an admin for another "
            "(`isoflop users add`)",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return Identity(user=user, via="token")


def _by_session(request: Request, ledger: Ledger) -> Identity | None:
    cookie = request.cookies.get(SESSION_COOKIE)
    found = ledger.user_of_session(cookie) if cookie else None
    if found is None:
        return None
    user, session = found
    return Identity(user=user, via="session", session=session)


def _by_proxy(request: Request, services: Services) -> Identity | None:
    """Believe a named proxy's header about a user that an admin has added."""
    trusted = services.settings.sign_in.trusted_header
    if trusted is None or not trusted.trusts(address_of(request)):
        return None
    name = request.headers.get(trusted.name)
    if not name:
        return None
    user = next((u for u in services.ledger.users() if u.user_id == name), None)
    if user is None or user.disabled:
        raise Problem(
            403, f"the proxy says that you are `{name}`, but no such user was added; ask an admin"
        )
    return Identity(user=user, via="proxy")


def signed_in(request: Request) -> Identity:
    """Return who asks.

    Raises:
        Problem: 401 if nobody is signed in.

    """
    found = identify(request)
    if found is None:
        raise Problem(
            401,
            "send a token (`Authorization: Bearer iso_...`), or sign in at /sign-in",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return found


Asking = Annotated[Identity, Depends(signed_in)]
"""A route's parameter: who asks, already proven."""


def require_role(identity: Identity, *roles: str) -> None:
    """Refuse who does not have one of the roles.

    Raises:
        Problem: 403.

    """
    if identity.user.role not in roles:
        raise Problem(
            403,
            f"this takes the role {' or '.join(roles)}, but `{identity.user.user_id}` is a "
            f"{identity.user.role}; ask an admin",
        )
