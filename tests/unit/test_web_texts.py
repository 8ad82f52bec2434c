"""The portal's catalogue of texts, its tokens, and how it writes times and numbers."""

from __future__ import annotations

import re
from pathlib import Path

import hub_config.web
from hub_config.jobs.model import State
from hub_config.web.texts import TEXTS
from hub_config.web.view import number, time_ago, value

WEB = Path(hub_config.web.__file__).parent
COMPUTED = ("state.", "role.", "theme.", "nav.", "form.type.", "form.differs.")


def used() -> set[str]:
    sources = [*(WEB / "templates").glob("*.html"), *WEB.rglob("*.py")]
    found: set[str] = set()
    for path in sources:
        if path.name != "texts.py":
            found |= set(
                re.findall(r"""\b(?:t|text)\(\s*["']([\w.]+)["']\s*[,)]""", path.read_text())
            )
    return found


def test_every_text_in_use_is_in_the_catalogue() -> None:
    assert used() - set(TEXTS) == set()
    assert {f"state.{s}" for s in State} <= set(TEXTS)


def test_every_text_of_the_catalogue_is_in_use() -> None:
    sources = "".join(
        p.read_text() for p in [*(WEB / "templates").glob("*.html"), *WEB.rglob("*.py")]
    )
    unused = {
        key
        for key in TEXTS
        if not key.startswith(COMPUTED)
        and sources.count(f'"{key}"') + sources.count(f"'{key}'") < 2
    }
    assert unused == set()


def test_words_are_calm() -> None:
    for key, words in TEXTS.items():
        assert "!" not in words, key
        assert not re.search(r"\b(please|oops|sorry)\b", words, re.I), key


def test_tokens_are_defined_and_used_for_every_colour() -> None:
    tokens = (WEB / "static" / "tokens.css").read_text()
    styles = (WEB / "static" / "portal.css").read_text()
    defined = set(re.findall(r"(--cu-[\w-]+):", tokens))
    assert set(re.findall(r"var\((--cu-[\w-]+)\)", styles)) <= defined
    assert set(re.findall(r"#[0-9a-fA-F]{3,8}\b", styles)) <= {"#fff"}  # a notebook's own paper


def test_contrast_is_aa_in_light_and_dark() -> None:
    tokens = (WEB / "static" / "tokens.css").read_text()
    for block in re.findall(r"\{([^{}]*--cu-bg[^{}]*)\}", tokens):
        colour = dict(re.findall(r"--cu-([\w-]+): (#[0-9a-f]{6})", block))
        for text in ("text", "muted", "accent", "good", "bad", "warn"):
            for under in ("bg", "surface", "raised", "sunken"):
                assert contrast(colour[text], colour[under]) >= 4.5, (text, under)
        for text, under in [
            ("on-accent", "accent"),
            ("on-bad", "bad"),
            ("good", "good-soft"),
            ("bad", "bad-soft"),
            ("warn", "warn-soft"),
            ("accent-strong", "accent-soft"),
            ("muted", "bad-soft"),
        ]:
            assert contrast(colour[text], colour[under]) >= 4.5, (text, under)
        assert contrast(colour["line-strong"], colour["surface"]) >= 3


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2.2."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_times_and_numbers() -> None:
    assert str(time_ago(None)) == "–"
    assert 'datetime="2024-01-01T00:00:00+00:00"' in time_ago(1704067200.0)
    assert [number(v) for v in (0.5, 1234567, 0.123456789, 1e-9)] == [
        "0.5",
        "1,234,567",
        "0.123457",
        "1e-09",
    ]
    assert [value(v) for v in ("a", 3, True, None, [1])] == ["a", "3", "true", "null", "[1]"]
