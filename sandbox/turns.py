"""Turns dealt out by weight."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping


class Turns:
    """Deals turns out by weight, as from a shuffled deck of cards.

    After every deck the shares are exact, and no habit of a client, such as two requests at a time, meets an order that
    always gives it the same member.
    """

    def __init__(self) -> None:
        self._deck: list[str] = []
        self._weights: Mapping[str, int] = {}

    def next(self, weights: Mapping[str, int]) -> str:
        """Whose turn it is.

        Args:
            weights: positive; not empty.
        """
        if weights != self._weights:
            self._weights, self._deck = dict(weights), []
        if not self._deck:
            one = math.gcd(*weights.values())
            self._deck = [name for name, weight in weights.items() for _ in range(weight // one)]
            random.shuffle(self._deck)
        return self._deck.pop()
