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


def upgrade() -> None:
    with op.batch_alter_table("alerts", recreate="always") as batch:
        batch.add_column(sa.Column("state", sa.String(length=16), nullable=False, server_default="open"))
        batch.add_column(sa.Column("repeats", sa.Integer(), nullable=False, server_default="0"))
        batch.add_column(sa.Column("last_at", sa.DateTime(), nullable=True))
        batch.add_column(sa.Column("closed_at", sa.DateTime(), nullable=True))
        batch.add_column(sa.Column("closed_by", sa.String(length=16), nullable=False, server_default=""))
    op.execute(
        "UPDATE alerts SET state = 'acknowledged', closed_at = decided_at, closed_by = 'upgrade' WHERE NOT EXISTS "
        "(SELECT 1 FROM deliveries WHERE alert_id = alerts.id AND deliveries.state IN ('pending', 'sending'))"
    )
    with op.batch_alter_table("alerts", recreate="always") as batch:
        for column in ("state", "repeats", "closed_by"):
            batch.alter_column(column, server_default=None)
        batch.create_check_constraint(
            op.f("ck_alerts_state"), "state IN ('open', 'acknowledged', 'snoozed', 'expired', 'cancelled')"
        )
        batch.create_check_constraint(op.f("ck_alerts_repeats"), "repeats >= 0")
        batch.create_check_constraint(op.f("ck_alerts_closed"), "(state = 'open') = (closed_at IS NULL)")
        batch.create_index("ix_alerts_state", ["state"])

    with op.batch_alter_table("deliveries", recreate="always") as batch:
        batch.add_column(sa.Column("number", sa.Integer(), nullable=False, server_default="0"))
        batch.add_column(sa.Column("transition", sa.String(length=16), nullable=False, server_default="alert"))
        batch.add_column(sa.Column("loudness", sa.Double(), nullable=False, server_default="0"))
    with op.batch_alter_table("deliveries", recreate="always") as batch:
        for column in ("number", "transition", "loudness"):
            batch.alter_column(column, server_default=None)
        batch.drop_constraint(op.f("pk_deliveries"), type_="primary")
        batch.create_primary_key(op.f("pk_deliveries"), ["alert_id", "channel", "number"])
        batch.create_check_constraint(
            op.f("ck_deliveries_transition"),
            "transition IN ('alert', 'repeat', 'acknowledged', 'snoozed', 'expired', 'cancelled')",
        )
        batch.create_check_constraint(
            op.f("ck_deliveries_number"), "(number = 0) = (transition = 'alert') AND number >= 0"
        )
        batch.create_check_constraint(op.f("ck_deliveries_loudness"), "loudness BETWEEN 0 AND 1")


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
