"""What members may ask for by name, out of the engine's cards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Card = Mapping[str, Any]


def painter_of(cards: Iterable[Card]) -> Card | None:
    """Return the painter in office, or the first there is."""
    painters = [card for card in cards if card.get("kind") == "painter"]
    return next((card for card in painters if card.get("in_office")), painters[0] if painters else None)


def art_styles_of(cards: Iterable[Card]) -> list[str]:
    """Return the art styles that the painter in office learned, then movements that others finish in."""
    cards = list(cards)
    learned = (painter_of(cards) or {}).get("art_styles", ())
    looks = [style for card in cards for style in card.get("styles", ())]
    movements = sorted({look["movement"] for look in looks if look.get("movement")})
    return list(dict.fromkeys([*learned, *movements]))
