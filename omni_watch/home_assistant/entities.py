"""What Home Assistant calls entities: one frozen value for each platform that we use. Pure.

Home Assistant drops a misspelt key without a word, so a field here is named as the key is, and `payload` only takes
what fields say: a key cannot be misspelt in one place and right in another. Tests hold the names against those that
Home Assistant knows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final, Literal

Category = Literal["config", "diagnostic"]
StateClass = Literal["measurement", "total_increasing"]
STATE_MAX: Final = 255  # characters of a state; a longer one becomes `unknown`
SHOWN_MAX: Final = 250  # what our templates cut states to
_NO_ID: Final = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Availability:
    """A topic that says whether an entity can be relied on."""

    topic: str
    value_template: str | None = None  # gives "online" or "offline"; None: the payload is one of them

    def payload(self) -> dict[str, Any]:
        return _given(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """What all entities have. `key` names it within its device and is never changed or used for something else."""

    platform: ClassVar[str]

    key: str
    name: str  # short; Home Assistant puts the device's name before it
    icon: str | None = None
    entity_category: Category | None = None
    enabled_by_default: bool | None = None
    availability: tuple[Availability, ...] | None = None  # None: its device's
    availability_mode: Literal["all", "any", "latest"] | None = None

    def payload(self) -> dict[str, Any]:
        """Its own part of the discovery message, without its ids."""
        return {name: value for name, value in _given(self).items() if name != "key"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stateful(Entity):
    """An entity with a state of its own."""

    state_topic: str
    value_template: str | None = None
    json_attributes_topic: str | None = None
    json_attributes_template: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch(Stateful):
    platform: ClassVar[str] = "switch"

    command_topic: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BinarySensor(Stateful):
    platform: ClassVar[str] = "binary_sensor"

    device_class: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensor(Stateful):
    platform: ClassVar[str] = "sensor"

    device_class: str | None = None
    unit_of_measurement: str | None = None
    state_class: StateClass | None = None
    options: tuple[str, ...] | None = None
    suggested_display_precision: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event(Entity):
    """Something that happens; its topic carries JSON with an `event_type` among `event_types`."""

    platform: ClassVar[str] = "event"

    state_topic: str
    event_types: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Button(Entity):
    platform: ClassVar[str] = "button"

    command_topic: str
    payload_press: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Text(Stateful):
    platform: ClassVar[str] = "text"

    command_topic: str
    max: int
    mode: Literal["text", "password"] = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notify(Entity):
    """Takes text of any length; since Home Assistant 2024.5."""

    platform: ClassVar[str] = "notify"

    command_topic: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Select(Stateful):
    platform: ClassVar[str] = "select"

    command_topic: str
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Image(Entity):
    platform: ClassVar[str] = "image"

    image_topic: str
    content_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One device with its entities."""

    node: str  # [a-zA-Z0-9_-]+: names it in topics and ids, never changed
    slug: str  # what ids of its entities begin with, when Home Assistant first sees them
    name: str
    model: str
    via: str | None = None  # the node of the device that it hangs on
    availability: tuple[Availability, ...]
    entities: tuple[Entity, ...]

    def entity_id(self, entity: Entity) -> str:
        """What Home Assistant should call the entity at first: `switch.omni_watch_k3_enabled`."""
        return f"{entity.platform}.{_NO_ID.sub('_', f'{self.slug}_{entity.key}'.lower()).strip('_')}"


def _given(value: Any) -> dict[str, Any]:
    """The fields that say something, as plain JSON values."""
    named = ((field.name, getattr(value, field.name)) for field in fields(value))
    return {name: _plain(content) for name, content in named if content is not None}


def _plain(content: Any) -> Any:
    if isinstance(content, tuple):
        return [_plain(one) for one in content]
    return content.payload() if isinstance(content, Availability) else content
