"""Times as people say them, in the house's own time, over midnight, summer and winter."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from omni_watch.domain.rhythms import EVERY_DAY, WORKDAYS, EverySoLong, OnDays
from omni_watch.domain.tasks import WatchWindow
from omni_watch.watch.moments import Moment, TimeFound, TimeKind
from tests.fakes.hearing import BOOK, ZONE
from tests.fakes.hearing import NOW as SATURDAY

MADRID = ZoneInfo(ZONE)

MOMENTS_OF_YEARS = st.integers(0, 15 * 365 * 24 * 3600).map(
    lambda seconds: datetime(2020, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
)
MOMENTS = [
    ("en", "in ten minutes", "28 10:40"),
    ("en", "in 90 seconds", "28 10:31"),
    ("en", "in an hour and a half", "28 12:00"),
    ("en", "in two and a half hours", "28 13:00"),
    ("en", "in two hours and thirty minutes", "28 13:00"),
    ("en", "in half an hour", "28 11:00"),
    ("en", "in a quarter of an hour", "28 10:45"),
    ("en", "at seven", "28 19:00"),
    ("en", "at 11", "28 11:00"),
    ("en", "at ten", "28 22:00"),  # ten in the morning has passed
    ("en", "at 7 pm", "28 19:00"),
    ("en", "at 7am", "29 07:00"),
    ("en", "at seven in the morning", "29 07:00"),
    ("en", "at 19:30", "28 19:30"),
    ("en", "at 07:15", "29 07:15"),
    ("en", "at quarter to eight tonight", "28 19:45"),
    ("en", "at twenty five past nine", "28 21:25"),
    ("en", "at noon", "28 12:00"),
    ("en", "at midnight", "29 00:00"),
    ("en", "tonight", "28 21:00"),
    ("en", "tomorrow", "29 09:00"),
    ("en", "tomorrow at seven", "29 07:00"),
    ("en", "tomorrow at three", "29 15:00"),
    ("en", "at three tomorrow", "29 15:00"),
    ("en", "tomorrow evening at eight", "29 20:00"),
    ("en", "on monday at eight", "30 08:00"),
    ("en", "next monday at eight", "30 08:00"),
    ("en", "saturday at nine am", "5 09:00"),  # nine this Saturday has passed
    ("en", "on the 3rd of december at 5 pm", "3 17:00"),
    ("en", "the day after tomorrow", "30 09:00"),
    ("zh", "十分钟后", "28 10:40"),
    ("zh", "二十五分钟之后", "28 10:55"),
    ("zh", "一个半小时后", "28 12:00"),
    ("zh", "半小时后", "28 11:00"),
    ("zh", "再过一刻钟", "28 10:45"),
    ("zh", "七点", "28 19:00"),
    ("zh", "七点半", "28 19:30"),
    ("zh", "晚上八点一刻", "28 20:15"),
    ("zh", "差五分八点", "28 19:55"),
    ("zh", "明天早上七点", "29 07:00"),
    ("zh", "明早七点", "29 07:00"),
    ("zh", "后天下午三点", "30 15:00"),
    ("zh", "今晚十二点", "29 00:00"),
    ("zh", "凌晨两点", "29 02:00"),
    ("zh", "中午", "28 12:00"),
    ("zh", "下周一早上八点", "30 08:00"),
    ("zh", "12月3号下午两点", "3 14:00"),
    ("zh", "十二月三日", "3 09:00"),
]


def found(language: str, text: str, now: datetime = SATURDAY, zone: str = ZONE) -> list[TimeFound]:
    return BOOK.speech(language).times.find(text, now=now, zone=zone)


def only(language: str, text: str, now: datetime = SATURDAY, zone: str = ZONE) -> object:
    """The one time that the whole text is."""
    (one,) = found(language, text, now, zone)
    assert (one.begins, one.ends) == (0, len(text))
    return one.value


def moment(language: str, text: str, now: datetime = SATURDAY, zone: str = ZONE) -> datetime:
    value = only(language, text, now, zone)
    assert isinstance(value, Moment)
    return value.at


@pytest.mark.parametrize(("language", "text", "local"), MOMENTS)
def test_a_moment_is_the_next_one_that_is_meant(language: str, text: str, local: str) -> None:
    at = moment(language, text).astimezone(MADRID)

    assert f"{at.day} {at:%H:%M}" == local


@pytest.mark.parametrize(
    ("language", "text", "begins", "ends"),
    [
        ("en", "between ten and six at night", time(22), time(6)),
        ("en", "between ten at night and six in the morning", time(22), time(6)),
        ("en", "between seven and nine in the evening", time(19), time(21)),
        ("en", "from nine to five", time(9), time(17)),
        ("en", "from 22:00 to 6:30", time(22), time(6, 30)),
        ("en", "at night", time(22), time(6)),
        ("zh", "晚上十点到早上六点", time(22), time(6)),
        ("zh", "从九点到五点", time(9), time(17)),
        ("zh", "下午两点到四点", time(14), time(16)),
    ],
)
def test_hours_of_the_day_take_the_halves_that_fit(language: str, text: str, begins: time, ends: time) -> None:
    assert only(language, text) == WatchWindow(begins=begins, ends=ends, zone=ZONE)


@pytest.mark.parametrize(
    ("language", "text", "rhythm"),
    [
        ("en", "every weekday at eight", OnDays(days=WORKDAYS, at=time(8), zone=ZONE)),
        ("en", "every day at six", OnDays(at=time(18), zone=ZONE)),
        ("en", "at 7 am every day", OnDays(at=time(7), zone=ZONE)),
        ("en", "every morning at half past seven", OnDays(at=time(7, 30), zone=ZONE)),
        ("en", "every monday and friday at 8 pm", OnDays(days=frozenset({0, 4}), at=time(20), zone=ZONE)),
        ("en", "on weekends at ten", OnDays(days=EVERY_DAY - WORKDAYS, at=time(10), zone=ZONE)),
        ("en", "every two hours", EverySoLong(interval=timedelta(hours=2))),
        ("en", "every hour", EverySoLong(interval=timedelta(hours=1))),
        ("zh", "每个工作日八点", OnDays(days=WORKDAYS, at=time(8), zone=ZONE)),
        ("zh", "每天早上七点半", OnDays(at=time(7, 30), zone=ZONE)),
        ("zh", "每周一下午三点", OnDays(days=frozenset({0}), at=time(15), zone=ZONE)),
        ("zh", "每周一和周五晚上八点", OnDays(days=frozenset({0, 4}), at=time(20), zone=ZONE)),
        ("zh", "每隔半小时", EverySoLong(interval=timedelta(minutes=30))),
    ],
)
def test_a_rhythm_keeps_its_days_and_its_time(language: str, text: str, rhythm: object) -> None:
    assert only(language, text) == rhythm


@pytest.mark.parametrize(
    ("language", "text"),
    [("en", "at 25:70"), ("en", "at 13 pm"), ("en", "the 40 thieves"), ("zh", "二十八点"), ("en", "every 10 seconds")],
)
def test_what_is_no_time_is_left_alone_or_read_as_the_part_that_is_one(language: str, text: str) -> None:
    assert all(one.kind is not TimeKind.RHYTHM for one in found(language, text))
    assert all(one.value.at > SATURDAY for one in found(language, text) if isinstance(one.value, Moment))


def test_the_last_one_is_known_too_for_questions_about_the_past() -> None:
    since_nine, today, last_night = only("en", "since nine"), only("en", "today"), only("en", "last night")

    assert isinstance(since_nine, Moment)
    assert since_nine.since.astimezone(MADRID).hour == 9
    assert isinstance(today, Moment)
    assert today.since.astimezone(MADRID).time() == time(0)
    assert isinstance(last_night, Moment)
    assert last_night.since.astimezone(MADRID) == datetime(2026, 11, 27, 18, tzinfo=MADRID)


def test_tonight_said_after_midnight_is_the_night_that_goes_on() -> None:
    now = datetime(2026, 11, 29, 0, 30, tzinfo=MADRID).astimezone(UTC)

    assert moment("en", "at two tonight", now).astimezone(MADRID) == datetime(2026, 11, 29, 2, tzinfo=MADRID)


@pytest.mark.parametrize(
    ("now", "text", "local"),
    [
        # 29 March 2026: 02:00 becomes 03:00
        (datetime(2026, 3, 28, 22, tzinfo=MADRID), "at 2:30 am", datetime(2026, 3, 29, 3, 30, tzinfo=MADRID)),
        (datetime(2026, 3, 28, 22, tzinfo=MADRID), "tomorrow at seven", datetime(2026, 3, 29, 7, tzinfo=MADRID)),
        (datetime(2026, 3, 29, 1, 30, tzinfo=MADRID), "in one hour", datetime(2026, 3, 29, 3, 30, tzinfo=MADRID)),
        # 25 October 2026: 03:00 becomes 02:00 again
        (datetime(2026, 10, 24, 22, tzinfo=MADRID), "at 2:30 am", datetime(2026, 10, 25, 2, 30, tzinfo=MADRID)),
        (
            datetime(2026, 10, 25, 1, 30, tzinfo=MADRID),
            "in two hours",
            datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=MADRID),
        ),
    ],
)
def test_the_clock_may_change_in_between(now: datetime, text: str, local: datetime) -> None:
    assert moment("en", text, now.astimezone(UTC)) == local.astimezone(UTC)


@given(
    now=MOMENTS_OF_YEARS,
    zone=st.sampled_from(["UTC", ZONE, "Asia/Shanghai", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia"]),
    hour=st.integers(1, 12),
    minute=st.integers(0, 59),
)
@example(now=datetime(2026, 3, 29, 0, 59, tzinfo=UTC), zone=ZONE, hour=2, minute=30)
@example(now=datetime(2026, 10, 25, 0, 30, tzinfo=UTC), zone=ZONE, hour=2, minute=30)
def test_a_bare_time_of_day_is_ahead_and_at_most_half_a_day_away(
    now: datetime, zone: str, hour: int, minute: int
) -> None:
    at = moment("en", f"at {hour}:{minute:02}", now, zone)

    assert now < at <= now + timedelta(hours=14)  # twelve, and one more for each change of the clock
    if minute and hour not in {1, 2, 3}:  # the hours that are skipped or come twice
        local = at.astimezone(ZoneInfo(zone))
        assert (local.hour % 12, local.minute) == (hour % 12, minute)


@given(
    now=MOMENTS_OF_YEARS,
    zone=st.sampled_from(["UTC", ZONE, "Asia/Shanghai", "America/St_Johns", "Australia/Lord_Howe"]),
    days=st.frozensets(st.integers(0, 6), min_size=1),
    at=st.times(),
)
def test_a_rhythm_goes_on_by_the_clock_of_the_house(now: datetime, zone: str, days: frozenset[int], at: time) -> None:
    at = at.replace(tzinfo=None)
    rhythm = OnDays(days=days, at=at, zone=zone)

    following = rhythm.after(now)
    later = rhythm.after(following)

    assert now < following < later <= following + timedelta(days=7, hours=2)
    assert following.astimezone(ZoneInfo(zone)).weekday() in days or at.hour < 4  # a skipped hour, at the latest
    assert rhythm.after(following - timedelta(microseconds=1)) == following


@given(text=st.text(alphabet="at ony in0123456789:.半点七十分钟后每天到早晚上 seven tomorrow and to", max_size=60))
def test_whatever_is_said_finds_times_that_do_not_overlap(text: str) -> None:
    for language in ("en", "zh"):
        stands = found(language, text)
        assert all(one.begins < one.ends for one in stands)
        assert all(one.ends <= other.begins for one, other in pairwise(stands))
