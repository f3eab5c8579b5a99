"""An alert has a state of its own; deliveries tell of its repeats and of its end too.

Alerts of before were told once and cannot be repeated: they count as noted, but for those that wait to be told.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


ALERT = (
    "number, id, task_id, task_text, feed, text, language, priority, occurrence, confidence, means, stream_s, "
    "condition_at, decided_at"
)
DELIVERY = "alert_id, channel, state, attempts, due_at, expires_at, detail"


def upgrade() -> None:
    """Both tables are written anew by hand: a new house makes its database while somebody waits, and reading the old
    tables back four times, as batches of changes would, takes longer than all the rest."""
    _alerts()
    _deliveries()


def _alerts() -> None:
    op.create_table(
        "alerts_anew",
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
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("repeats", sa.Integer(), nullable=False),
        sa.Column("last_at", sa.DateTime(), nullable=True),
        sa.Column("closed_at", sa.DateTime(), nullable=True),
        sa.Column("closed_by", sa.String(length=16), nullable=False),
        sa.CheckConstraint("priority IN ('low', 'normal', 'urgent')", name=op.f("ck_alerts_priority")),
        sa.CheckConstraint(
            "state IN ('open', 'acknowledged', 'snoozed', 'expired', 'cancelled')", name=op.f("ck_alerts_state")
        ),
        sa.CheckConstraint("occurrence >= 1", name=op.f("ck_alerts_occurrence")),
        sa.CheckConstraint("repeats >= 0", name=op.f("ck_alerts_repeats")),
        sa.CheckConstraint("(state = 'open') = (closed_at IS NULL)", name=op.f("ck_alerts_closed")),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_alerts_task_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_alerts")),
        sa.UniqueConstraint("id", name=op.f("uq_alerts_id")),
        sa.UniqueConstraint("task_id", "occurrence", name=op.f("uq_alerts_task_id_occurrence")),
    )
    waits = "EXISTS (SELECT 1 FROM deliveries AS d WHERE d.alert_id = a.id AND d.state IN ('pending', 'sending'))"
    op.execute(
        f"INSERT INTO alerts_anew ({ALERT}, state, repeats, last_at, closed_at, closed_by) "  # noqa: S608
        f"SELECT {ALERT}, CASE WHEN {waits} THEN 'open' ELSE 'acknowledged' END, 0, NULL, "
        f"CASE WHEN {waits} THEN NULL ELSE decided_at END, CASE WHEN {waits} THEN '' ELSE 'upgrade' END "
        "FROM alerts AS a"
    )
    op.drop_table("alerts")
    op.rename_table("alerts_anew", "alerts")
    op.create_index("ix_alerts_decided_at", "alerts", ["decided_at"])
    op.create_index("ix_alerts_state", "alerts", ["state"])


def _deliveries() -> None:
    op.create_table(
        "deliveries_anew",
        sa.Column("alert_id", sa.String(length=64), nullable=False),
        sa.Column("channel", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("transition", sa.String(length=16), nullable=False),
        sa.Column("loudness", sa.Double(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.DateTime(), nullable=False),
        sa.Column("expires_at", sa.DateTime(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.CheckConstraint(
            "state IN ('pending', 'sending', 'sent', 'expired', 'dead')", name=op.f("ck_deliveries_state")
        ),
        sa.CheckConstraint(
            "transition IN ('alert', 'repeat', 'acknowledged', 'snoozed', 'expired', 'cancelled')",
            name=op.f("ck_deliveries_transition"),
        ),
        sa.CheckConstraint("attempts >= 0", name=op.f("ck_deliveries_attempts")),
        sa.CheckConstraint("(number = 0) = (transition = 'alert') AND number >= 0", name=op.f("ck_deliveries_number")),
        sa.CheckConstraint("loudness BETWEEN 0 AND 1", name=op.f("ck_deliveries_loudness")),
        sa.ForeignKeyConstraint(["alert_id"], ["alerts.id"], name=op.f("fk_deliveries_alert_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("alert_id", "channel", "number", name=op.f("pk_deliveries")),
    )
    op.execute(
        f"INSERT INTO deliveries_anew ({DELIVERY}, number, transition, loudness) "  # noqa: S608
        f"SELECT {DELIVERY}, 0, 'alert', 0 FROM deliveries"
    )
    op.drop_table("deliveries")
    op.rename_table("deliveries_anew", "deliveries")
    op.create_index("ix_deliveries_state_channel_due_at", "deliveries", ["state", "channel", "due_at"])


def downgrade() -> None:
    op.execute("DELETE FROM deliveries WHERE number > 0")  # an older version knows one message for each channel
    with op.batch_alter_table("deliveries", recreate="always") as batch:
        for name in ("transition", "number", "loudness"):
            batch.drop_constraint(op.f(f"ck_deliveries_{name}"), type_="check")
        batch.drop_constraint(op.f("pk_deliveries"), type_="primary")
        batch.create_primary_key(op.f("pk_deliveries"), ["alert_id", "channel"])
    with op.batch_alter_table("deliveries", recreate="always") as batch:
        for name in ("transition", "number", "loudness"):
            batch.drop_column(name)
    with op.batch_alter_table("alerts", recreate="always") as batch:
        batch.drop_index("ix_alerts_state")
        for name in ("state", "repeats", "closed"):
            batch.drop_constraint(op.f(f"ck_alerts_{name}"), type_="check")
        for name in ("state", "repeats", "last_at", "closed_at", "closed_by"):
            batch.drop_column(name)
