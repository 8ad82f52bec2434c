"""Passwords: argon2id, and a comparison that takes as long for a name nobody has."""

from __future__ import annotations

from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from hub_config.errors import Invalid

SHORTEST, LONGEST = 10, 200

_hasher = PasswordHasher()


def check_password(password: str, name: str) -> str:
    """`password` if it is good enough. Raises `Invalid`."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise Invalid(f"A password has {SHORTEST} to {LONGEST} characters.")
    if name in password.lower() or len(set(password)) < 5:
        raise Invalid("This password is too easy to guess: leave your name out, vary it more.")
    return password


def hash_password(password: str) -> str:
    return _hasher.hash(password)


def verify(password_hash: str | None, password: str) -> bool:
    """Whether `password` belongs to the hash; with no hash the same work is done for nothing."""
    if len(password) > LONGEST:
        password = ""
    try:
        return _hasher.verify(password_hash or _nobodys_hash(), password) and bool(password_hash)
    except (VerificationError, InvalidHashError):
        return False


@cache
def _nobodys_hash() -> str:
    return _hasher.hash("the password of nobody")
