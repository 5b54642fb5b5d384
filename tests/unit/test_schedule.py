"""Sizes by the clock: cron expressions, and what is wrong with a schedule."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tfserving.schedule import Cron, CronError, Schedule, ScheduledSize, cron_scaler, problems, zone_problem

NO_ZONES = {"localtime", "posixrules", "Factory"}
_LIMITS = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
_MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2031, 1, 1)).map(lambda each: each.replace(microsecond=0))


def _texts(least: int, most: int) -> st.SearchStrategy[tuple[str, set[int]]]:
    """Parts of a field, each with the numbers it stands for."""
    number = st.integers(least, most)
    single = number.map(lambda n: (str(n), {n}))
    every = st.just(("*", set(range(least, most + 1))))
    span = st.tuples(number, number).map(sorted).map(lambda p: (f"{p[0]}-{p[1]}", set(range(p[0], p[1] + 1))))
    step = st.tuples(number, st.integers(1, 30)).map(lambda p: (f"{p[0]}/{p[1]}", set(range(p[0], most + 1, p[1]))))
    part = st.one_of(single, every, span, step)
    return st.lists(part, min_size=1, max_size=3).map(
        lambda parts: (",".join(text for text, _ in parts), set().union(*(numbers for _, numbers in parts)))
    )


@given(st.tuples(*(_texts(*limits) for limits in _LIMITS)), _MOMENTS)
def test_an_expression_holds_at_the_numbers_its_fields_stand_for(
    fields: tuple[tuple[str, set[int]], ...], moment: datetime
) -> None:
    text = " ".join(each for each, _ in fields)
    parts = (moment.second, moment.minute, moment.hour, moment.day, moment.month, moment.isoweekday() % 7)
    days, months, weekdays = (numbers for _, numbers in fields[3:])
    assume(len(days) == 31 or len(weekdays) == 7)
    assume(min(days) <= 29 or (min(days) == 30 and months != {2}) or months & {1, 3, 5, 7, 8, 10, 12})
    cron = Cron.parse(text)
    assert cron.matches(moment) == all(part in numbers for part, (_, numbers) in zip(parts, fields, strict=True))


def test_names_of_months_and_weekdays_are_taken_in_any_case() -> None:
    assert Cron.parse("0 0 9 * jan-MAR MON-fri") == Cron.parse("0 0 9 * 1-3 1-5")


def test_sunday_is_0() -> None:
    sunday = datetime(2026, 11, 29, 9, 0, tzinfo=UTC)
    cron = Cron.parse("0 0 9 * * SUN")
    assert [cron.matches(sunday + timedelta(days=days)) for days in range(8)] == [True] + [False] * 6 + [True]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("30 8 * * 1-5", "it has 5 of 6 fields; the first field is for seconds"),
        ("", "it has 0 of 6 fields"),
        ("@daily", "it has 1 of 6 fields"),
        ("0\u00a030 8 * * 1-5", "it has 5 of 6 fields"),
        ("0 30 8 * * 1\u20115", "is not a weekday"),
        ("0 30 \u0668 * * *", "is not an hour"),
        ("60 * * * * *", "`60` is not a second: 0 to 59"),
        ("0 0 24 * * *", "`24` is not an hour: 0 to 23"),
        ("0 0 0 0 * *", "`0` is not a day: 1 to 31"),
        ("0 0 0 * * 7", "`7` is not a weekday: 0 to 6, or SUN to SAT"),
        ("0 0 0 * FOO *", "`FOO` is not a month: 1 to 12, or JAN to DEC"),
        ("0 0 0 ? * *", "`?` is not a day"),
        ("0 0 0 * * 5-1", "`5-1` is not a weekday: 5 comes after 1"),
        ("0 */0 * * * *", "a step is 1 or more"),
        ("0 *-5 * * * *", "`*-5` is not a minute"),
        ("0 0 0 31 2,4 *", "no month of it has a day 31: it never comes"),
        ("0 0 8 1 * 1", "it limits day and weekday"),
        ("0 -5 * * * *", "`-5` is not a minute"),
        ("\uff10 0 0 * * *", "is not a second"),
    ],
)
def test_what_is_no_time_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(CronError) as caught:
        Cron.parse(text)
    assert reason in str(caught.value)


def test_february_29_comes_now_and_then() -> None:
    assert Cron.parse("0 0 0 29 2 *").matches(datetime(2028, 2, 29))


def schedule(*jobs: tuple[str, str, int], **more: object) -> Schedule:
    made = tuple(ScheduledSize(name=name, at=at, replicas=replicas) for name, at, replicas in jobs)
    return Schedule(jobs=made, **{"time_zone": "Asia/Shanghai", **more})  # type: ignore[arg-type]


MORNING, EVENING = ("morning", "0 30 8 * * 1-5", 6), ("evening", "0 0 20 * * *", 2)


@pytest.mark.parametrize(
    ("wrong", "path", "message"),
    [
        (schedule(), "s.jobs", "no job"),
        (schedule(("a", "0 0 8 * * *", 0)), "s.jobs.a.replicas", "replicas is 0"),
        (schedule(("a", "0 0 8 * * *", 1001)), "s.jobs.a.replicas", "replicas is 1001"),
        (schedule(("a b", "0 0 8 * * *", 1)), 's.jobs["a b"]', "not a name of a job"),
        (schedule(("a", "8:30", 1)), "s.jobs.a.at", "`8:30` is not a time of the schedule"),
        (schedule(MORNING, ("early", "0 30 8 * * MON-FRI", 3)), "s.jobs.early.at", "at the same time"),
        (schedule(("a", "0 0 8 * * *", 2), ("b", "0 0 */4 1 * *", 3)), "s.jobs.b.at", "on some days"),
        (schedule(("a", "0 0 8 1 * *", 2), ("b", "0 0 8 * * MON", 3)), "s.jobs.b.at", "on some days"),
        (schedule(MORNING, exclude=("* * * 1 13 *",)), "s.exclude[0]", "`13` is not a month"),
        (schedule(MORNING, exclude=("0 0 0 1 10 *",)), "s.exclude[0]", "limits second, minute or hour"),
        (schedule(MORNING, exclude=("* * * * * *",)), "s.exclude[0]", "every day"),
    ],
)
def test_each_fault_of_a_schedule_is_told_where_it_stands(wrong: Schedule, path: str, message: str) -> None:
    [problem] = problems(wrong, "s")
    assert problem.path == path
    assert message in problem.message


@pytest.mark.parametrize(
    "apart",
    [
        schedule(("a", "0 0 8 * * 1-5", 6), ("b", "0 0 8 * * 0,6", 3)),
        schedule(("a", "0 0 8 * * *", 6), ("b", "0 0 8 1 * *", 6)),
        schedule(("a", "0 0 8 29-31 2,3 *", 6), ("b", "0 0 8 30 2,4 *", 3)),
        schedule(("a", "0 0 8 * * *", 6), ("b", "1 0 8 * * *", 3)),
    ],
)
def test_jobs_that_never_meet_or_agree_are_fine(apart: Schedule) -> None:
    assert list(problems(apart, "s")) == []


@pytest.mark.parametrize(
    ("offset", "zone", "hours"),
    [("GMT+8", "Etc/GMT-8", 8), ("utc-05:00", "Etc/GMT+5", -5), ("+08:00", "Etc/GMT-8", 8)],
)
def test_an_offset_is_answered_with_the_zone_that_has_it(offset: str, zone: str, hours: int) -> None:
    assert f"write {zone}," in str(zone_problem(offset, "z"))
    assert datetime(2024, 1, 1, tzinfo=ZoneInfo(zone)).utcoffset() == timedelta(hours=hours)


def test_no_zone_of_another_offset_is_proposed() -> None:
    assert "Fix" not in str(zone_problem("GMT+5:30", "z"))


def test_a_good_schedule_has_no_problem_and_becomes_the_body_of_the_call() -> None:
    made = schedule(MORNING, EVENING, exclude=("* * * 1 10 *",))
    assert list(problems(made, "s")) == []
    assert (made.least, made.most) == (2, 6)
    assert cron_scaler(made) == {
        "scaleJobs": [
            {"name": "morning", "schedule": "0 30 8 * * 1-5", "targetSize": 6, "timeZone": "Asia/Shanghai"},
            {"name": "evening", "schedule": "0 0 20 * * *", "targetSize": 2, "timeZone": "Asia/Shanghai"},
        ],
        "excludeDates": ["* * * 1 10 *"],
    }


@pytest.mark.parametrize("name", sorted({*available_timezones(), "EST5EDT", "GMT0", "NZ-CHAT", "Etc/GMT+5"} - NO_ZONES))
def test_every_zone_of_the_database_is_one(name: str) -> None:
    assert zone_problem(name, "z") is None


@pytest.mark.parametrize("name", sorted(NO_ZONES))
def test_a_file_that_is_beside_the_zones_is_none(name: str) -> None:
    told = str(zone_problem(name, "z"))
    assert f"`{name}` is not a time zone" in told
    assert not any(f"did you mean '{each}'" in told for each in NO_ZONES)


def test_a_word_of_a_message_has_its_article() -> None:
    with pytest.raises(CronError, match="`99` is not an hour"):
        Cron.parse("0 0 99 * * *")
    with pytest.raises(CronError, match="`1-x-` is not a minute"):
        Cron.parse("0 1-x- 9 * * *")


def test_a_time_zone_has_a_name_of_the_database() -> None:
    assert zone_problem("Asia/Shanghai", "z") is None
    assert zone_problem("UTC", "z") is None
    told = [str(zone_problem(each, "z")) for each in ("", "Asia/Shangai", "+08:00")]
    assert "missing" in told[0]
    assert "Asia/Shanghai" in told[1]
    assert "`+08:00` is not a time zone" in told[2]
