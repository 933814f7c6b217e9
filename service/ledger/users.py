"""Users, their tokens and their browsers' sessions. Secrets are never stored, only their hashes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Sequence
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.engine import RowMapping

from service.jobs.records import ROLES, Quota, Role, SessionRecord, TokenRecord, UserRecord
from service.ledger.service_schema import tokens, users, web_sessions
from service.ledger.store import Store, check_columns, insert_if_new, missing, record_of, row_of
from trainers.errors import ConfigError, nearest

TOKEN_PREFIX = "iso"
SECRET_BYTES = 32
"""256 bits from the system's generator: no dictionary, so a plain SHA-256 is enough."""
USED_EVERY_S = 60.0
RESERVED_USERS = ("local", "anonymous", "system")
_USER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}")
_PATTERN = re.compile(r"[^\[\]\\\x00-\x1f]{1,200}")


class UserStore(Store):
    """Users, tokens and sessions."""

    def create_user(
        self,
        user_id: str,
        role: str = "submitter",
        *,
        projects: Sequence[str] = (),
        quota: Quota | None = None,
    ) -> UserRecord:
        """Add a user.

        Args:
            user_id: letters, digits and `._@+-`.
            role: viewer, submitter or admin.
            projects: patterns (`*` and `?`) of projects that may be read besides one's own.
            quota: limits of this user; what is None follows the service's rule.

        Raises:
            ConfigError: for a name, role or pattern that breaks a rule, or a name that is taken.

        """
        record = UserRecord(
            user_id=user_id,
            role=cast(Role, role),  # checked in the next statement
            projects=tuple(projects),
            quota=quota or Quota(),
            created_unix_s=time.time(),
        )
        _check_user(record)
        with self._writing() as connection:
            if not insert_if_new(connection, users, _user_row(record)):
                raise ConfigError(
                    f"a user's name is unique, but {user_id!r} exists; "
                    "make another token for it, or choose another name"
                )
        return record

    def user(self, user_id: str) -> UserRecord:
        """Return one user.

        Raises:
            LedgerError: if there is none of that name; the message names those there are.

        """
        known = {record.user_id: record for record in self.users()}
        if user_id not in known:
            raise missing("user", user_id, list(known))
        return known[user_id]

    def users(self) -> list[UserRecord]:
        """Return all users by name. Empty: the service may serve this machine only."""
        with self._reading() as connection:
            rows = connection.execute(sa.select(users).order_by(users.c.user_id)).mappings()
            return [_user_of(row) for row in rows]

    def update_user(self, user_id: str, **changes: Any) -> UserRecord:
        """Change role, projects, quota or `disabled`; a disabled user's sessions end.

        Raises:
            ConfigError: for a value that breaks a rule.
            LedgerError: for an unknown user or field.

        """
        check_columns(users, changes, protected=("user_id", "created_unix_s"))
        before = _user_row(self.user(user_id))
        if "quota" in changes:
            changes["quota"] = changes["quota"].to_mapping()
        after = _user_of({**before, **changes})
        _check_user(after)
        with self._writing() as connection:
            connection.execute(
                sa.update(users).where(users.c.user_id == user_id).values(**_user_row(after))
            )
            if after.disabled:
                connection.execute(sa.delete(web_sessions).where(web_sessions.c.user_id == user_id))
        return after

    def add_token(
        self, user_id: str, label: str = "", expires_unix_s: float | None = None
    ) -> tuple[TokenRecord, str]:
        """Make a token `iso_<token id>_<secret>`; the text is returned here and never again.

        Raises:
            LedgerError: for an unknown user.

        """
        self.user(user_id)
        token_id = base64.b32encode(secrets.token_bytes(5)).decode().lower()
        secret = secrets.token_urlsafe(SECRET_BYTES)
        record = TokenRecord(
            token_id=token_id,
            user_id=user_id,
            label=label,
            created_unix_s=time.time(),
            expires_unix_s=expires_unix_s,
            revoked_unix_s=None,
            last_used_unix_s=None,
        )
        with self._writing() as connection:
            connection.execute(sa.insert(tokens), row_of(record, sha256=_hash(secret)))
        return record, f"{TOKEN_PREFIX}_{token_id}_{secret}"

    def tokens(self, user_id: str | None = None) -> list[TokenRecord]:
        """Return tokens, of one user or all, oldest first; revoked ones too."""
        query = sa.select(tokens).order_by(tokens.c.created_unix_s, tokens.c.token_id)
        if user_id is not None:
            query = query.where(tokens.c.user_id == user_id)
        with self._reading() as connection:
            return [record_of(TokenRecord, row) for row in connection.execute(query).mappings()]

    def revoke_token(self, token_id: str) -> TokenRecord:
        """End a token, and every session of its user. Revoking twice changes nothing.

        Raises:
            LedgerError: for an unknown token.

        """
        with self._writing() as connection:
            row = (
                connection.execute(sa.select(tokens).where(tokens.c.token_id == token_id))
                .mappings()
                .first()
            )
            if row is None:
                known = connection.execute(sa.select(tokens.c.token_id)).scalars()
                raise missing("token", token_id, list(known))
            revoked = row["revoked_unix_s"] or time.time()
            connection.execute(
                sa.update(tokens)
                .where(tokens.c.token_id == token_id)
                .values(revoked_unix_s=revoked)
            )
            connection.execute(
                sa.delete(web_sessions).where(web_sessions.c.user_id == row["user_id"])
            )
        return record_of(TokenRecord, row, revoked_unix_s=revoked)

    def user_of_token(self, token: str, *, now_unix_s: float | None = None) -> UserRecord | None:
        """Return whose token this is; None if it is unknown, expired, revoked or its user disabled.

        The hashes are compared in constant time. `last_used_unix_s` is written once a minute at
        most, so that reading pages does not write.
        """
        prefix, _, rest = token.partition("_")
        token_id, _, secret = rest.partition("_")
        if prefix != TOKEN_PREFIX or not secret:
            return None
        now = time.time() if now_unix_s is None else now_unix_s
        query = (
            sa.select(tokens, *_USER_COLUMNS)
            .join(users, users.c.user_id == tokens.c.user_id)
            .where(tokens.c.token_id == token_id)
        )
        with self._reading() as connection:
            row = connection.execute(query).mappings().first()
        known_hash = row["sha256"] if row is not None else _hash("")
        if not hmac.compare_digest(known_hash, _hash(secret)) or row is None:
            return None
        expires = row["expires_unix_s"]
        if row["revoked_unix_s"] is not None or (expires is not None and now >= expires):
            return None
        user = _joined_user(row)
        if user.disabled:
            return None
        last_used = row["last_used_unix_s"]
        if last_used is None or now - last_used >= USED_EVERY_S:
            with self._writing() as connection:
                connection.execute(
                    sa.update(tokens)
                    .where(tokens.c.token_id == token_id)
                    .values(last_used_unix_s=now)
                )
        return user

    def open_session(self, user_id: str, lifetime_s: float) -> tuple[SessionRecord, str]:
        """Sign a browser in; return its session and the cookie's value, which is not stored.

        Sessions that have expired are deleted on the way.
        """
        now = time.time()
        cookie = secrets.token_urlsafe(SECRET_BYTES)
        record = SessionRecord(
            user_id=self.user(user_id).user_id,
            created_unix_s=now,
            expires_unix_s=now + lifetime_s,
        )
        with self._writing() as connection:
            connection.execute(sa.delete(web_sessions).where(web_sessions.c.expires_unix_s <= now))
            connection.execute(
                sa.insert(web_sessions), row_of(record, session_sha256=_hash(cookie))
            )
        return record, cookie

    def user_of_session(self, cookie: str) -> tuple[UserRecord, SessionRecord] | None:
        """Return who is signed in with this cookie; None if nobody is, any more."""
        query = (
            sa.select(web_sessions, *_USER_COLUMNS)
            .join(users, users.c.user_id == web_sessions.c.user_id)
            .where(web_sessions.c.session_sha256 == _hash(cookie))
        )
        with self._reading() as connection:
            row = connection.execute(query).mappings().first()
        if row is None or time.time() >= row["expires_unix_s"]:
            return None
        user = _joined_user(row)
        return None if user.disabled else (user, record_of(SessionRecord, row))

    def close_session(self, cookie: str) -> None:
        """Sign a browser out; harmless if it is not signed in."""
        with self._writing() as connection:
            connection.execute(
                sa.delete(web_sessions).where(web_sessions.c.session_sha256 == _hash(cookie))
            )


_USER_COLUMNS = [column.label(f"of_user_{column.name}") for column in users.columns]


def _joined_user(row: RowMapping) -> UserRecord:
    return _user_of({column.name: row[f"of_user_{column.name}"] for column in users.columns})


def _user_of(row: RowMapping | dict[str, Any]) -> UserRecord:
    stored = dict(row)
    projects, quota = tuple(stored["projects"]), Quota.from_mapping(stored["quota"])
    return UserRecord(**{**stored, "projects": projects, "quota": quota})


def _user_row(record: UserRecord) -> dict[str, Any]:
    return {**row_of(record), "quota": record.quota.to_mapping(), "projects": [*record.projects]}


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _check_user(record: UserRecord) -> None:
    if record.role not in ROLES:
        raise ConfigError(
            f"a user's role is one of {', '.join(ROLES)}, but got {record.role!r}"
            f"{nearest(record.role, ROLES)}"
        )
    if not _USER_ID.fullmatch(record.user_id) or record.user_id in RESERVED_USERS:
        raise ConfigError(
            "a user's name has 1 to 100 letters, digits and `._@+-`, begins with a letter or "
            f"digit and is none of {', '.join(RESERVED_USERS)}, but got {record.user_id!r}"
        )
    for pattern in record.projects:
        if not _PATTERN.fullmatch(pattern):
            raise ConfigError(
                "a project pattern has 1 to 200 characters, of which `*` and `?` stand for any, "
                f"and no brackets or backslashes, but got {pattern!r}; e.g. vision/*"
            )
