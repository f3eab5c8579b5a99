"""Reminders are tasks whose condition is the time; notes are small things that the house remembers by name."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "notes",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_notes")),
    )
    with op.batch_alter_table("tasks", recreate="always") as batch:
        batch.add_column(sa.Column("reminds_at", sa.DateTime(), nullable=True))
        batch.add_column(sa.Column("rhythm", sa.JSON(), nullable=True))
        batch.create_check_constraint(op.f("ck_tasks_rhythm"), "rhythm IS NULL OR reminds_at IS NOT NULL")


def downgrade() -> None:
    op.execute("DELETE FROM tasks WHERE reminds_at IS NOT NULL")  # an older version would watch for them
    with op.batch_alter_table("tasks", recreate="always") as batch:
        batch.drop_constraint(op.f("ck_tasks_rhythm"), type_="check")
        batch.drop_column("rhythm")
        batch.drop_column("reminds_at")
    op.drop_table("notes")
