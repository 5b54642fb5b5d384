"""Sizes by the clock: at a time, a service gets a number of replicas.

Times are cron expressions of six fields, the first for seconds. Sources: the pages "UpdateServiceCronScaler" and
"Scheduled auto scaling" of PAI-EAS; README and ``pkg/controller`` of kubernetes-cronhpa-controller, which ACK runs as
``ack-kubernetes-cronhpa-controller``. What only one of them takes (``?``, ``@daily``, ``@date``) is refused for both.
"""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tfserving.errors import Problem
from tfserving.model_config import did_you_mean
from tfserving.options import option
from tfserving.property_path import join_path

MOST_REPLICAS = 1000

_MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
_WEEKDAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
_FIELDS: tuple[tuple[str, int, int, list[str]], ...] = (
    ("second", 0, 59, []),
    ("minute", 0, 59, []),
    ("hour", 0, 23, []),
    ("day", 1, 31, []),
    ("month", 1, 12, _MONTHS),
    ("weekday", 0, 6, _WEEKDAYS),
)
_LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_PART = re.compile(r"(?P<first>\*|[0-9A-Za-z]+)(-(?P<last>[0-9A-Za-z]+))?(/(?P<step>[0-9]{1,2}))?")
_JOB = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*")
_NO_ZONES = frozenset({"localtime", "posixrules", "Factory"})
"""Files beside those of the zones: whatever a machine has set, and a stand-in for machines that nobody has set up."""
_OFFSET = re.compile(
    r"(?:UTC|GMT|Etc/GMT)?(?P<sign>[+-])(?P<hours>[0-9]{1,2})(?::?(?P<minutes>[0-9]{2}))?", re.ASCII | re.IGNORECASE
)
FORM = "second, minute, hour, day, month and weekday, such as `0 30 8 * * 1-5` for 8:30 on working days"


class CronError(ValueError):
    """Not a cron expression. The message says why."""


@dataclass(frozen=True)
class Cron:
    """A cron expression.

    Attributes:
        fields: for each field the numbers at which it holds.
    """

    fields: tuple[frozenset[int], ...]

    @classmethod
    def parse(cls, text: str) -> Cron:
        """Reads an expression.

        Raises:
            CronError: it is none, it never comes, or it limits both day and weekday.
        """
        words = [word for word in re.split("[ \t]", text) if word]  # other blanks, schedulers do not know
        if len(words) != len(_FIELDS):
            hint = "; the first field is for seconds" if len(words) == len(_FIELDS) - 1 else ""
            raise CronError(f"it has {len(words)} of {len(_FIELDS)} fields{hint}")
        found = tuple(_field(word, *field) for word, field in zip(words, _FIELDS, strict=True))
        days, months, weekdays = found[3:]
        if len(days) < 31 and len(weekdays) < 7:
            raise CronError(
                "it limits day and weekday, and schedulers differ in whether one or both have to hold; use two jobs"
            )
        if not _comes(days, months):
            raise CronError(f"no month of it has a day {min(days)}: it never comes")
        return cls(found)

    def matches(self, when: datetime) -> bool:
        """Whether it holds in that second."""
        parts = (when.second, when.minute, when.hour, when.day, when.month, when.isoweekday() % 7)
        return all(part in field for part, field in zip(parts, self.fields, strict=True))

    def meets(self, other: Cron) -> bool:
        """Whether there is a second at which both hold, in this year or a later one."""
        common = [mine & theirs for mine, theirs in zip(self.fields, other.fields, strict=True)]
        return all(common) and _comes(*common[3:5])


def _comes(days: frozenset[int], months: frozenset[int]) -> bool:
    return min(days) <= max(_LONGEST[month - 1] for month in months)


def _field(word: str, name: str, least: int, most: int, names: list[str]) -> frozenset[int]:
    an = "an" if name == "hour" else "a"

    def number(text: str) -> int:
        if text.upper() in names:
            return names.index(text.upper()) + least
        if not text.isdecimal() or not least <= int(text) <= most:
            spelt = f", or {names[0]} to {names[-1]}" if names else ""
            raise CronError(f"`{text}` is not {an} {name}: {least} to {most}{spelt}")
        return int(text)

    found: set[int] = set()
    for part in word.split(","):
        match = _PART.fullmatch(part)
        if match is None or (match["first"] == "*" and match["last"]):
            raise CronError(
                f"`{part}` is not {an} {name}: a number, `*`, a range `1-5`, a step `*/15`, or several of them"
            )
        step = int(match["step"] or 1)
        if step == 0:
            raise CronError(f"`{part}` is not {an} {name}: a step is 1 or more")
        if match["first"] == "*":
            first, last = least, most
        else:
            first = number(match["first"])
            last = number(match["last"]) if match["last"] else most if match["step"] else first
        if first > last:
            raise CronError(f"`{part}` is not {an} {name}: {first} comes after {last}")
        found.update(range(first, last + 1, step))
    return frozenset(found)


@dataclass(frozen=True, kw_only=True)
class ScheduledSize:
    """A job of the schedule.

    Attributes:
        name: its name.
        at: when: a cron expression with seconds, such as ``0 30 8 * * 1-5``.
        replicas: how many the service has from then on.
    """

    name: str = option(configured=False)
    at: str
    replicas: int


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The number of replicas by the clock.

    Attributes:
        jobs: by name: when, and how many replicas from then on.
        time_zone: time zone of the times, such as ``Asia/Shanghai``. On Kubernetes it is the controller's.
        exclude: days on which no job runs, as cron expressions.
    """

    jobs: tuple[ScheduledSize, ...] = option(written=Mapping[str, ScheduledSize])
    time_zone: str = option("", otherwise="required on EAS")
    exclude: tuple[str, ...] = ()

    @property
    def least(self) -> int:
        """The smallest size."""
        return min(job.replicas for job in self.jobs)

    @property
    def most(self) -> int:
        """The largest size."""
        return max(job.replicas for job in self.jobs)


def problems(schedule: Schedule, path: str) -> Iterator[Problem]:
    """Everything that is wrong with a schedule but its time zone.

    Args:
        schedule: the schedule.
        path: where it stands.
    """
    jobs = join_path(path, "jobs")
    if not schedule.jobs:
        yield Problem(
            jobs, "the schedule has no job", "names of jobs, each with at and replicas", "add one, or remove it"
        )
    times: dict[str, tuple[Cron, int]] = {}
    for job in schedule.jobs:
        at = join_path(jobs, job.name)
        if not _JOB.fullmatch(job.name):
            yield Problem(at, f"`{job.name}` is not a name of a job", "up to 63 letters, digits, - and _")
        if not 1 <= job.replicas <= MOST_REPLICAS:
            message = f"replicas is {job.replicas}"
            fix = "without a replica nobody is answered, and an update could not be proven" if not job.replicas else ""
            yield Problem(join_path(at, "replicas"), message, f"1 to {MOST_REPLICAS}", fix)
        try:
            cron = Cron.parse(job.at)
        except CronError as error:
            yield Problem(join_path(at, "at"), f"`{job.at}` is not a time of the schedule: {error}", FORM)
            continue
        for name, (other, size) in times.items():
            if cron == other:
                message = f"jobs {name} and {job.name} run at the same time: nothing says which size wins"
                yield Problem(join_path(at, "at"), message, "", "keep one of them")
            elif size != job.replicas and cron.meets(other):
                message = f"jobs {name} and {job.name} run at the same time on some days: nothing says which size wins"
                allowed = "times of which at most one comes in any second"
                yield Problem(
                    join_path(at, "at"), message, allowed, "take the time of one out of the other, or move it"
                )
        times[job.name] = cron, job.replicas
    for index, text in enumerate(schedule.exclude):
        if reason := _no_day(text):
            allowed = "days in the form of a time, such as `* * * 1 10 *` for October 1"
            yield Problem(f"{join_path(path, 'exclude')}[{index}]", f"`{text}` is not a day: {reason}", allowed)


def _no_day(text: str) -> str:
    """Why an expression does not name days without jobs; empty if it does.

    When a job runs, ``IsTodayOff`` of kubernetes-cronhpa-controller looks whether the expression holds once more that
    day. So one for midnight would keep no job of the day from running.
    """
    try:
        *time, days, months, weekdays = Cron.parse(text).fields
    except CronError as error:
        return str(error)
    if [len(each) for each in time] != [60, 60, 24]:
        return "it limits second, minute or hour, and jobs before or after that time would run; write * for each"
    if [len(each) for each in (days, months, weekdays)] == [31, 12, 7]:
        return "it is every day, so that no job would ever run"
    return ""


def zone_problem(name: str, path: str) -> Problem | None:
    """What is wrong with the name of a time zone.

    Where the machine has no time zone data, only its form is looked at.
    """
    allowed = "a name of the IANA database, such as Asia/Shanghai or UTC"
    if not name:
        message = "the time zone is missing, and EAS does not say which one it would take"
        return Problem(path, message, allowed, "set timeZone: Asia/Shanghai")
    known = zoneinfo.available_timezones() - _NO_ZONES
    if not _ZONE.fullmatch(name) or name in _NO_ZONES or (known and name not in known):
        return Problem(path, f"`{name}` is not a time zone", allowed, _zone_fix(name, known))
    return None


def _zone_fix(name: str, known: Set[str]) -> str:
    """The zone that was meant. An offset such as ``GMT+8`` is close to zones of other offsets, and none of them."""
    if not (offset := _OFFSET.fullmatch(name)):
        return did_you_mean(name, sorted(known))
    zone = f"Etc/GMT{'-' if offset['sign'] == '+' else '+'}{int(offset['hours'])}"
    whole = not int(offset["minutes"] or 0) and zone in known
    return f"write {zone}, whose sign is the other one by definition" if whole else ""


def cron_scaler(schedule: Schedule) -> dict[str, Any]:
    """The body of CreateServiceCronScaler and UpdateServiceCronScaler, with keys that begin small."""
    jobs = [
        {"name": job.name, "schedule": job.at, "targetSize": job.replicas, "timeZone": schedule.time_zone}
        for job in schedule.jobs
    ]
    return {"scaleJobs": jobs, **({"excludeDates": list(schedule.exclude)} if schedule.exclude else {})}
