"""Who is at the other end: signed cookies, the login token, CSRF tokens.

On loopback without a token whoever opens the page is the host.  With a token, nobody sees anything before logging in:
the token itself makes a host, and the visitors' code derived from it lets friends paint, vote and look, but not govern.
Cookies are signed and stateless; a new token makes all of them void.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import json
import os
import secrets
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from aiohttp import web

from bot.studio import HOST, WEB, Member

COOKIE = "ganvas"
LIFETIME = 180 * 86400  # seconds


@dataclass(frozen=True)
class Visitor:
    """One browser: ``role`` is "host", "visitor", or "stranger" before the login; CSRF tokens hang on ``session``."""

    session: str
    role: str
    id: str
    name: str
    since: float

    @property
    def member(self) -> Member:
        """Whom the studio knows this browser as."""
        return HOST if self.role == "host" else Member(WEB, self.id, self.name)

    @property
    def is_host(self) -> bool:
        return self.role == "host"

    @property
    def is_stranger(self) -> bool:
        return self.role == "stranger"


def is_loopback(host: str) -> bool:
    """Whether ``host`` (a name or an address, without port) is this very machine."""
    host = host.strip("[]").lower()
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Sessions:
    """Makes and reads visitors' cookies; compares secrets in constant time."""

    def __init__(self, folder: Path, token: str | None, *, secure: bool) -> None:
        self.token = token
        self._secure = secure
        self._key = hmac.digest(_kept_key(folder / "web.key"), (token or "").encode(), "sha256")

    @property
    def visitors_code(self) -> str:
        """What the host gives to friends: 60 bits derived from the login token, in three groups to read aloud."""
        digest = hmac.digest((self.token or "").encode(), b"ganvas visitors' code", "sha256")
        code = base64.b32encode(digest)[:12].decode().lower()
        return "-".join(code[i : i + 4] for i in (0, 4, 8))

    def role_of(self, secret: str) -> str | None:
        """Which role ``secret`` opens, or None."""
        given = hashlib.sha256(secret.strip().encode()).digest()
        is_host = hmac.compare_digest(given, hashlib.sha256((self.token or "").encode()).digest())
        is_visitor = hmac.compare_digest(given, hashlib.sha256(self.visitors_code.encode()).digest())
        if not self.token:
            return None
        return "host" if is_host else "visitor" if is_visitor else None

    def fresh(self, role: str | None = None, name: str = "") -> Visitor:
        """A browser seen for the first time: the host where no token guards the door, else a stranger."""
        role = role or ("stranger" if self.token else "host")
        return Visitor(secrets.token_urlsafe(12), role, secrets.token_hex(8), name or "Visitor", time.time())

    def read(self, request: web.Request) -> Visitor | None:
        """The visitor that the request's cookie names, if the signature holds and the cookie is young enough."""
        try:
            body, _, signature = request.cookies.get(COOKIE, "").partition(".")
            if not hmac.compare_digest(signature.encode(), self._sign(body)):
                return None
            visitor = Visitor(**json.loads(base64.urlsafe_b64decode(body)))
        except (ValueError, TypeError, binascii.Error):
            return None
        return visitor if time.time() - visitor.since < LIFETIME else None

    def write(self, request: web.Request, response: web.StreamResponse, visitor: Visitor) -> None:
        """Set the cookie that :meth:`read` reads."""
        body = base64.urlsafe_b64encode(json.dumps(asdict(visitor)).encode()).decode()
        secure = self._secure or request.secure or request.headers.get("X-Forwarded-Proto") == "https"
        response.set_cookie(
            COOKIE,
            f"{body}.{self._sign(body).decode()}",
            max_age=LIFETIME,
            httponly=True,
            samesite="Lax",
            secure=secure,
        )

    def csrf(self, visitor: Visitor) -> str:
        """The token that every form of this browser carries."""
        return hmac.new(self._key, f"csrf {visitor.session}".encode(), "sha256").hexdigest()

    def csrf_ok(self, visitor: Visitor, token: str) -> bool:
        return hmac.compare_digest(self.csrf(visitor).encode(), token.encode())

    def _sign(self, body: str) -> bytes:
        return hmac.new(self._key, f"cookie {body}".encode(), "sha256").hexdigest().encode()


def _kept_key(path: Path) -> bytes:
    """The signing key of this house, made on first use and readable by its owner alone."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(secrets.token_bytes(32))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    return path.read_bytes()
