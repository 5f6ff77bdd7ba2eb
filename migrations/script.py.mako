"""${message}."""

from __future__ import annotations

from memsidecar.postgres.migrations import run_scripts

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_scripts(revision, "up")


def downgrade() -> None:
    run_scripts(revision, "down")
