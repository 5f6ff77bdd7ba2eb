"""The schema of the first release."""

from __future__ import annotations

from memsidecar.postgres.migrations import run_scripts

revision = "0001_initial"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_scripts(revision, "up")


def downgrade() -> None:
    run_scripts(revision, "down")
