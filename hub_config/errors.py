"""The errors that a user may see, and the one envelope they travel in.

A message says what went wrong, with which thing, and what to do next. Whoever lacks a right to see
a thing gets `NotFound`, never a hint that it exists; whoever sees it but may not do this to it gets
`Forbidden`. Routes and the command line translate; domain code only raises.
"""

from __future__ import annotations

from typing import Any


class CuadernoError(Exception):
    """Base of every error whose message may be shown to a person."""

    status = 500
    title = "Something failed on the platform"

    def __init__(self, detail: str, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra = extra

    @property
    def code(self) -> str:
        """A stable word for programs, derived from the class: `NotFound` → `not-found`."""
        name = type(self).__name__
        return "".join(f"-{c.lower()}" if c.isupper() else c for c in name).lstrip("-")

    def problem(self) -> dict[str, Any]:
        """The error as RFC 9457 problem details."""
        return {
            "type": f"urn:cuaderno:error:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            **self.extra,
        }


class Invalid(CuadernoError):
    status = 422
    title = "The input is not valid"


class Unauthenticated(CuadernoError):
    status = 401
    title = "Sign in first"


class Forbidden(CuadernoError):
    status = 403
    title = "You may not do this"


class NotFound(CuadernoError):
    status = 404
    title = "Not found"


class Conflict(CuadernoError):
    status = 409
    title = "This conflicts with the present state"


class TooManyRequests(CuadernoError):
    status = 429
    title = "Too many attempts"


class Unavailable(CuadernoError):
    status = 503
    title = "A part of the platform is not answering"


class Misconfigured(CuadernoError):
    """A setting, a folder or a port that keeps the platform from starting."""

    title = "The platform cannot start"
