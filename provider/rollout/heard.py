"""What the read before an update has heard from every replica about every model, and what need not be asked again."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from provider.asking import Answers
from provider.resource import Context
from tfserving.contract.parts import ServedVersions

_KEY = "heard"
_SECONDS = 60.0
"""How long it counts: an engine updates right after it has read."""


@dataclass(frozen=True)
class Heard:
    """What services said at one time.

    Attributes:
        answers: by service, about every model.
        at: when, in seconds of the monotonic clock.
    """

    answers: Mapping[str, Answers]
    at: float = field(default_factory=time.monotonic)

    def keep(self, ctx: Context) -> None:
        """For the next operation on the resource in this process."""
        ctx.memory[_KEY] = self

    @classmethod
    def of(cls, ctx: Context) -> Heard:
        """What the operation before has heard, once; nothing where that is long ago, or there was none."""
        found = ctx.memory.pop(_KEY, None)
        return found if isinstance(found, cls) and time.monotonic() - found.at < _SECONDS else cls({})

    def settled(self, services: Iterable[str], expected: Mapping[str, ServedVersions]) -> frozenset[str]:
        """The models that every replica of these services serves as expected, and nothing else of them.

        Args:
            services: by name.
            expected: by model.
        """
        answers = [self.answers.get(name) for name in services]
        if not answers or None in answers:
            return frozenset()
        return frozenset(
            model
            for model, should in expected.items()
            if all(answer is not None and _serves(answer, model, should) for answer in answers)
        )

    def with_newer(self, service: str, newer: Answers, models: Collection[str]) -> Answers:
        """A newer answer of a service, with what was heard of the models that it was not asked about.

        Args:
            service: its name.
            newer: the answer.
            models: those that it was not asked about.
        """
        if not models:
            return newer
        older = self.answers[service]
        return Answers(
            {**{name: older.states[name] for name in models}, **newer.states},
            {**{name: older.labels.get(name, {}) for name in models}, **newer.labels},
        )


def _serves(answer: Answers, model: str, should: ServedVersions) -> bool:
    return (
        answer.available(model) == answer.anywhere(model) == tuple(should.versions)
        and answer.labels.get(model, {}).keys() == should.labels.keys()
        and all(answer.label(model, label) == version for label, version in should.labels.items())
    )
