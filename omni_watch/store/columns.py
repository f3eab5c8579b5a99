"""How values that SQLite does not know are kept in its columns."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from enum import Enum
from typing import Any, Generic, TypeVar

from sqlalchemy import JSON, CheckConstraint, DateTime, Dialect, String
from sqlalchemy.types import TypeDecorator

from omni_watch.domain.errors import StoreError
from omni_watch.domain.regions import Region
from omni_watch.domain.rhythms import EverySoLong, OnDays, Rhythm

EnumT = TypeVar("EnumT", bound=Enum)


class Utc(TypeDecorator[datetime]):
    """An aware datetime, kept as UTC text of fixed width, so that text order is time order."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"the time {value} says no zone; times are kept as aware UTC")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


class Word(TypeDecorator[EnumT], Generic[EnumT]):
    """A member of an enum, kept as its value."""

    impl = String
    cache_ok = True

    def __init__(self, kind: type[EnumT]) -> None:
        super().__init__(16)
        self.kind = kind

    def process_bind_param(self, value: EnumT | None, dialect: Dialect) -> str | None:
        return None if value is None else str(value.value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> EnumT | None:
        if value is None:
            return None
        try:
            return self.kind(value)
        except ValueError as error:
            raise StoreError(
                f"the database holds {value!r} where one of {', '.join(words(self.kind))} was expected; "
                "`omni-watch db check` shows more, `omni-watch db restore BACKUP` brings back a backup"
            ) from error


class Words(TypeDecorator[tuple[Any, ...]]):
    """A tuple of strings, kept as a JSON list."""

    impl = JSON
    cache_ok = True

    def process_bind_param(self, value: tuple[Any, ...] | None, dialect: Dialect) -> list[Any] | None:
        return None if value is None else list(value)

    def process_result_value(self, value: list[Any] | None, dialect: Dialect) -> tuple[Any, ...] | None:
        return None if value is None else tuple(value)


class Rectangle(TypeDecorator[Region]):
    """A region, kept as a JSON list of four fractions."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def process_bind_param(self, value: Region | None, dialect: Dialect) -> list[float] | None:
        return None if value is None else list(value.as_tuple())

    def process_result_value(self, value: list[float] | None, dialect: Dialect) -> Region | None:
        return None if value is None else Region(*value)


class Beat(TypeDecorator[Rhythm]):
    """A rhythm, kept as a JSON object: `{"days": [0, 1], "at": "08:00:00", "zone": "UTC"}` or `{"every_s": 7200.0}`."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def process_bind_param(self, value: Rhythm | None, dialect: Dialect) -> dict[str, Any] | None:
        match value:
            case None:
                return None
            case OnDays(days=days, at=at, zone=zone):
                return {"days": sorted(days), "at": at.isoformat(), "zone": zone}
            case EverySoLong(interval=interval):
                return {"every_s": interval.total_seconds()}

    def process_result_value(self, value: dict[str, Any] | None, dialect: Dialect) -> Rhythm | None:
        if value is None:
            return None
        if "every_s" in value:
            return EverySoLong(interval=timedelta(seconds=value["every_s"]))
        return OnDays(days=frozenset(value["days"]), at=time.fromisoformat(value["at"]), zone=value["zone"])


def words(kind: type[Enum]) -> list[str]:
    return [str(member.value) for member in kind]


def one_of(column: str, kind: type[Enum]) -> CheckConstraint:
    """The check that a `Word` column holds one of its enum's values."""
    return CheckConstraint(f"{column} IN ({', '.join(repr(word) for word in words(kind))})", name=column)
