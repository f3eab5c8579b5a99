"""The devices that Home Assistant sees: the house itself (its hub), each feed, each task. Pure.

Ids are made of the instance name and of ids that we generate, never of a person's words. A person's words are the name
of a task's device; changing them changes no id.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from omni_watch.alerts.messages import TopicNames
from omni_watch.domain.tasks import Task, TaskState
from omni_watch.home_assistant.entities import (
    SHOWN_MAX,
    Availability,
    BinarySensor,
    Button,
    Device,
    Entity,
    Event,
    Image,
    Notify,
    Select,
    Sensor,
    Switch,
    Text,
)
from omni_watch.watch.modes import Mode

# Home Assistant loses an event whose type was not declared, so all that will ever be are declared from the beginning.
EVENT_TYPES: Final = ("alert", "repeat", "acknowledged", "snoozed", "resolved", "expired", "cancelled", "error")
MODEL_STATES: Final = ("loading", "ready", "degraded", "failed")
NAME_MAX: Final = 60  # characters of a person's words that name a device
SNOOZE_MIN: Final = 10  # what the button asks for
LINGERS: Final = timedelta(days=1)  # how long a task that has happened is still shown
PRESS: Final = "PRESS"


def is_shown(task: Task, now: datetime) -> bool:
    """Whether the broker should hold anything of a task: while it is live, and for a day after it has happened, so that
    what it said can still be looked at and taken note of. What was cancelled or has expired goes at once."""
    if task.is_live:
        return True
    happened_at = task.last_told_at or task.last_fired_at
    return task.state is TaskState.DONE and happened_at is not None and now - happened_at < LINGERS


def hub_node(topics: TopicNames) -> str:
    return f"omni_watch_{topics.instance}"


def hub(topics: TopicNames) -> Device:
    """The house: what concerns all tasks."""
    node = hub_node(topics)
    return Device(
        node=node,
        slug=node,
        name=f"Omni Watch {topics.instance}",
        model="Omni Watch",
        availability=_availability(topics),
        entities=(*_alerts(topics), *_wishes(topics), *_diagnostics(topics)),
    )


def feed_device(topics: TopicNames, feed: str, *, has_sound: bool = True) -> Device:
    """One place that is watched."""
    node = f"{hub_node(topics)}_f_{feed}"
    state = topics.feed_state(feed)
    is_there = Availability(topic=state, value_template="{{ 'online' if value_json.online else 'offline' }}")
    both = (*_availability(topics), is_there)
    return Device(
        node=node,
        slug=f"{hub_node(topics)}_{feed}",
        name=feed.replace("_", " ").replace("-", " ").capitalize(),
        model="feed",
        via=hub_node(topics),
        availability=_availability(topics),
        entities=(
            BinarySensor(  # goes by the hub alone: it must be able to say "off"
                key="online",
                name="Online",
                device_class="connectivity",
                state_topic=state,
                value_template="{{ 'ON' if value_json.online else 'OFF' }}",
                json_attributes_topic=state,
            ),
            Sensor(
                key="fps",
                name="Pictures per second",
                entity_category="diagnostic",
                enabled_by_default=False,
                availability=both,
                availability_mode="all",
                state_topic=state,
                value_template="{{ value_json.fps }}",
                state_class="measurement",
                suggested_display_precision=1,
            ),
            Sensor(
                key="lag",
                name="Lag",
                entity_category="diagnostic",
                enabled_by_default=False,
                availability=both,
                availability_mode="all",
                state_topic=state,
                value_template="{{ value_json.lag_s }}",
                device_class="duration",
                unit_of_measurement="s",
                state_class="measurement",
                suggested_display_precision=2,
            ),
            *(_hearing(topics, feed, both) if has_sound else ()),
        ),
    )


def _hearing(topics: TopicNames, feed: str, both: tuple[Availability, ...]) -> tuple[Entity, ...]:
    """What belongs to a feed's sound."""
    state = topics.feed_state(feed)
    return (
        Switch(
            key="listen",
            name="Listen",
            icon="mdi:microphone",
            command_topic=topics.feed_command(feed, "listen"),
            state_topic=state,
            value_template="{{ 'ON' if value_json.listen else 'OFF' }}",
        ),
        Sensor(
            key="level",
            name="Sound level",
            icon="mdi:waveform",
            entity_category="diagnostic",
            enabled_by_default=False,
            availability=both,
            availability_mode="all",
            state_topic=state,
            value_template="{{ value_json.level_dbfs }}",
            unit_of_measurement="dBFS",
            state_class="measurement",
            suggested_display_precision=0,
        ),
    )


def task_node(topics: TopicNames, task_id: str) -> str:
    return f"{hub_node(topics)}_t_{task_id}"


def task_device(topics: TopicNames, task: Task) -> Device:
    """One task, called by the person's own words."""
    state = topics.task_state(task.id)
    return Device(
        node=task_node(topics, task.id),
        slug=f"omni_watch_{task.id}",
        name=shortened(task.text),
        model="reminder" if task.reminder is not None else "watch task",
        via=hub_node(topics),
        availability=_availability(topics),
        entities=(
            Switch(
                key="enabled",
                name="Enabled",
                icon="mdi:eye",
                command_topic=topics.task_command(task.id, "enabled"),
                state_topic=state,
                value_template="{{ 'ON' if value_json.enabled else 'OFF' }}",
            ),
            BinarySensor(
                key="active",
                name="Active",
                icon="mdi:bell-alert",
                state_topic=state,
                value_template="{{ 'ON' if value_json.active else 'OFF' }}",
                json_attributes_topic=state,
            ),
            Event(
                key="alert",
                name="Alert",
                icon="mdi:bell-ring",
                state_topic=topics.task_alert(task.id),
                event_types=EVENT_TYPES,
            ),
            Button(
                key="ack",
                name="Acknowledge",
                icon="mdi:check",
                command_topic=topics.task_command(task.id, "ack"),
                payload_press=PRESS,
            ),
            Button(
                key="snooze",
                name=f"Snooze {SNOOZE_MIN} min",
                icon="mdi:alarm-snooze",
                command_topic=topics.task_command(task.id, "snooze"),
                payload_press=str(SNOOZE_MIN),
            ),
            Button(
                key="delete",
                name="Delete",
                icon="mdi:delete",
                enabled_by_default=False,
                command_topic=topics.task_command(task.id, "delete"),
                payload_press=PRESS,
            ),
            Sensor(
                key="last_fired",
                name="Last fired",
                entity_category="diagnostic",
                device_class="timestamp",
                state_topic=state,
                value_template="{{ value_json.last_fired }}",
            ),
        ),
    )


def shortened(text: str, most: int = NAME_MAX) -> str:
    """A person's words on one line, cut to so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def _availability(topics: TopicNames) -> tuple[Availability, ...]:
    return (Availability(topic=topics.availability),)


def _alerts(topics: TopicNames) -> tuple[Entity, ...]:
    return (
        Event(key="alert", name="Alert", icon="mdi:bell-ring", state_topic=topics.alert, event_types=EVENT_TYPES),
        Sensor(
            key="last_alert",
            name="Last alert",
            icon="mdi:message-alert",
            state_topic=topics.last_alert,
            value_template=f"{{{{ value_json.text[:{SHOWN_MAX}] }}}}",
            json_attributes_topic=topics.last_alert,
        ),
        Image(key="snapshot", name="Snapshot", image_topic=topics.snapshot, content_type="image/jpeg"),
    )


def _wishes(topics: TopicNames) -> tuple[Entity, ...]:
    return (
        Text(
            key="new_task",
            name="New task",
            icon="mdi:eye-plus",
            command_topic=topics.command("new_task"),
            state_topic=topics.hub_state,
            value_template="{{ value_json.new_task }}",
            max=SHOWN_MAX,
        ),
        Notify(key="add_task", name="Add task", icon="mdi:eye-plus", command_topic=topics.command("new_task")),
        Notify(key="say", name="Say", icon="mdi:message-text", command_topic=topics.command("say")),
        Sensor(
            key="reply",
            name="Reply",
            icon="mdi:message-reply-text",
            state_topic=topics.reply(COMMAND),
            value_template=(
                f"{{{{ (value_json.result if value_json.ok else value_json.error).message[:{SHOWN_MAX}] }}}}"
            ),
            json_attributes_topic=topics.reply(COMMAND),
        ),
        Switch(
            key="mute",
            name="Mute",
            icon="mdi:volume-off",
            command_topic=topics.command("mute"),
            state_topic=topics.hub_state,
            value_template="{{ 'ON' if value_json.mute else 'OFF' }}",
        ),
        Select(
            key="mode",
            name="Mode",
            icon="mdi:home-account",
            entity_category="config",
            command_topic=topics.command("mode"),
            state_topic=topics.hub_state,
            value_template="{{ value_json.mode }}",
            options=tuple(mode.value for mode in Mode),
        ),
    )


COMMAND: Final = "command"  # who replies to plain commands are for


def _diagnostics(topics: TopicNames) -> tuple[Entity, ...]:
    state = topics.hub_state
    return (
        Sensor(
            key="model",
            name="Model",
            entity_category="diagnostic",
            device_class="enum",
            options=MODEL_STATES,
            state_topic=state,
            value_template="{{ value_json.model }}",
        ),
        Sensor(
            key="unit_ms",
            name="Time for one second",
            entity_category="diagnostic",
            device_class="duration",
            unit_of_measurement="ms",
            state_class="measurement",
            suggested_display_precision=0,
            state_topic=state,
            value_template="{{ value_json.unit_ms }}",
        ),
        Sensor(
            key="queue",
            name="Waiting deliveries",
            entity_category="diagnostic",
            state_class="measurement",
            state_topic=state,
            value_template="{{ value_json.queue }}",
        ),
        Sensor(
            key="tasks_active",
            name="Tasks watched",
            entity_category="diagnostic",
            state_class="measurement",
            state_topic=state,
            value_template="{{ value_json.tasks_active }}",
        ),
        Sensor(
            key="alerts_today",
            name="Alerts today",
            entity_category="diagnostic",
            state_class="total_increasing",
            state_topic=state,
            value_template="{{ value_json.alerts_today }}",
        ),
        BinarySensor(
            key="problem",
            name="Problem",
            entity_category="diagnostic",
            device_class="problem",
            state_topic=state,
            value_template="{{ 'ON' if value_json.problems else 'OFF' }}",
            json_attributes_topic=state,
            json_attributes_template="{{ {'problems': value_json.problems} | tojson }}",
        ),
    )
