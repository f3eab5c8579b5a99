"""The first tables: tasks, what was taught, the ledger, alerts and their deliveries, topics, wishes, timers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "published_topics",
        sa.Column("topic", sa.String(length=256), nullable=False),
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("topic", name=op.f("pk_published_topics")),
    )
    op.create_index("ix_published_topics_task_id", "published_topics", ["task_id"])
    op.create_table(
        "tasks",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("language", sa.String(length=16), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.Column("set_by", sa.String(length=16), nullable=False),
        sa.Column("set_at", sa.DateTime(), nullable=False),
        sa.Column("rule", sa.String(length=64), nullable=True),
        sa.Column("why", sa.String(), nullable=False),
        sa.Column("feeds", sa.JSON(), nullable=False),
        sa.Column("repeat", sa.String(length=16), nullable=False),
        sa.Column("priority", sa.String(length=16), nullable=False),
        sa.Column("cooldown_s", sa.Double(), nullable=False),
        sa.Column("window_begins", sa.Time(), nullable=True),
        sa.Column("window_ends", sa.Time(), nullable=True),
        sa.Column("window_zone", sa.String(length=64), nullable=True),
        sa.Column("expires_at", sa.DateTime(), nullable=True),
        sa.Column("snoozed_until", sa.DateTime(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("fired_count", sa.Integer(), nullable=False),
        sa.Column("last_fired_at", sa.DateTime(), nullable=True),
        sa.Column("last_told_at", sa.DateTime(), nullable=True),
        sa.CheckConstraint("priority IN ('low', 'normal', 'urgent')", name=op.f("ck_tasks_priority")),
        sa.CheckConstraint("repeat IN ('once', 'each')", name=op.f("ck_tasks_repeat")),
        sa.CheckConstraint(
            "state IN ('armed', 'fired', 'cooling', 'paused', 'done', 'cancelled', 'expired')",
            name=op.f("ck_tasks_state"),
        ),
        sa.CheckConstraint(
            "(window_begins IS NULL) = (window_ends IS NULL) AND (window_begins IS NULL) = (window_zone IS NULL)",
            name=op.f("ck_tasks_window"),
        ),
        sa.CheckConstraint("cooldown_s >= 0", name=op.f("ck_tasks_cooldown_s")),
        sa.CheckConstraint("fired_count >= 0", name=op.f("ck_tasks_fired_count")),
        sa.CheckConstraint("length(id) BETWEEN 1 AND 32", name=op.f("ck_tasks_id")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_tasks")),
        sa.UniqueConstraint("id", name=op.f("uq_tasks_id")),
    )
    op.create_index("ix_tasks_state", "tasks", ["state"])
    op.create_table(
        "timers",
        sa.Column("id", sa.Unicode(length=191), nullable=False),
        sa.Column("next_run_time", sa.Float(precision=25), nullable=True),
        sa.Column("job_state", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_timers")),
    )
    op.create_index("ix_timers_next_run_time", "timers", ["next_run_time"])
    op.create_table(
        "wishes",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("made_at", sa.DateTime(), nullable=False),
        sa.Column("answered_at", sa.DateTime(), nullable=True),
        sa.Column("answer", sa.JSON(), nullable=True),
        sa.CheckConstraint("(answered_at IS NULL) = (answer IS NULL)", name=op.f("ck_wishes_answer")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_wishes")),
        sa.UniqueConstraint("id", name=op.f("uq_wishes_id")),
    )
    op.create_index("ix_wishes_answered_at", "wishes", ["answered_at"])
    op.create_table(
        "alerts",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.Column("task_text", sa.String(), nullable=False),
        sa.Column("feed", sa.String(length=64), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("language", sa.String(length=16), nullable=False),
        sa.Column("priority", sa.String(length=16), nullable=False),
        sa.Column("occurrence", sa.Integer(), nullable=False),
        sa.Column("confidence", sa.Double(), nullable=False),
        sa.Column("means", sa.JSON(), nullable=False),
        sa.Column("stream_s", sa.Double(), nullable=False),
        sa.Column("condition_at", sa.DateTime(), nullable=False),
        sa.Column("decided_at", sa.DateTime(), nullable=False),
        sa.CheckConstraint("priority IN ('low', 'normal', 'urgent')", name=op.f("ck_alerts_priority")),
        sa.CheckConstraint("occurrence >= 1", name=op.f("ck_alerts_occurrence")),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_alerts_task_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_alerts")),
        sa.UniqueConstraint("id", name=op.f("uq_alerts_id")),
        sa.UniqueConstraint("task_id", "occurrence", name=op.f("uq_alerts_task_id_occurrence")),
    )
    op.create_index("ix_alerts_decided_at", "alerts", ["decided_at"])
    op.create_table(
        "lessons",
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.Column("feed", sa.String(length=64), nullable=False),
        sa.Column("region", sa.JSON(), nullable=True),
        sa.Column("display_region", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_lessons_task_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("task_id", "feed", name=op.f("pk_lessons")),
    )
    op.create_table(
        "marks",
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.Column("feed", sa.String(length=64), nullable=False),
        sa.Column("is_primed", sa.Boolean(), nullable=False),
        sa.Column("holds", sa.Boolean(), nullable=True),
        sa.Column("held_when_set", sa.Boolean(), nullable=False),
        sa.Column("last_alert_at", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_marks_task_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("task_id", "feed", name=op.f("pk_marks")),
    )
    op.create_table(
        "deliveries",
        sa.Column("alert_id", sa.String(length=64), nullable=False),
        sa.Column("channel", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.DateTime(), nullable=False),
        sa.Column("expires_at", sa.DateTime(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.CheckConstraint(
            "state IN ('pending', 'sending', 'sent', 'expired', 'dead')", name=op.f("ck_deliveries_state")
        ),
        sa.CheckConstraint("attempts >= 0", name=op.f("ck_deliveries_attempts")),
        sa.ForeignKeyConstraint(["alert_id"], ["alerts.id"], name=op.f("fk_deliveries_alert_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("alert_id", "channel", name=op.f("pk_deliveries")),
    )
    op.create_index("ix_deliveries_state_channel_due_at", "deliveries", ["state", "channel", "due_at"])
    op.create_table(
        "examples",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.Column("feed", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("label", sa.String(length=16), nullable=False),
        sa.Column("jpeg", sa.LargeBinary(), nullable=False),
        sa.Column("taken_at", sa.DateTime(), nullable=False),
        sa.Column("origin", sa.String(), nullable=False),
        sa.CheckConstraint("label IN ('not_yet', 'done', 'empty', 'full')", name=op.f("ck_examples_label")),
        sa.CheckConstraint("length(jpeg) > 0", name=op.f("ck_examples_jpeg")),
        sa.ForeignKeyConstraint(
            ["task_id", "feed"],
            ["lessons.task_id", "lessons.feed"],
            name=op.f("fk_examples_task_id_feed"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_examples")),
        sa.UniqueConstraint("task_id", "id", name=op.f("uq_examples_task_id_id")),
    )
    op.create_index("ix_examples_task_id_feed", "examples", ["task_id", "feed"])


def downgrade() -> None:
    for table in (
        "examples",
        "deliveries",
        "marks",
        "lessons",
        "alerts",
        "wishes",
        "timers",
        "tasks",
        "published_topics",
    ):
        op.drop_table(table)
