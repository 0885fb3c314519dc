# SPDX-License-Identifier: MIT
"""The frame of every report: one HTML file with its style inside."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from importlib.resources import files


def document(title: str, parts: Iterable[str]) -> str:
    """A whole page; the parts are HTML."""
    style = files(__package__).joinpath("style.css").read_text(encoding="utf-8")
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(title)}</title>'
        f"<style>{style}</style></head><body><main>{''.join(parts)}</main></body></html>\n"
    )


def section(title: str, body: str) -> str:
    """A titled card; `body` is HTML."""
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def tile(number: str, text: str, kind: str = "") -> str:
    """One number that matters; `kind`: "good", "warn", "bad" or ""."""
    return f'<div class="tile {kind}"><b>{escape(number)}</b><small>{escape(text)}</small></div>'
