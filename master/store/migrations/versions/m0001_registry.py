"""The first form of the database."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_NEVER = "the audit log is append-only"


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "changes",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("gateway", sa.String(), nullable=False),
        sa.Column("application", sa.String(), nullable=False),
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "command_states",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("gateway", sa.String(), nullable=False),
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("recorded_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("id", "gateway", "state", "time", name="uq_command_states"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "commands",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("gateway", sa.String(), nullable=False),
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=True),
        sa.Column("args", sa.Text(), nullable=True),
        sa.Column("issuer", sa.String(), nullable=True),
        sa.Column("issued_time", sa.BigInteger(), nullable=True),
        sa.Column("deadline", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("state_time", sa.BigInteger(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_commands_device", "commands", ["device", "number"], unique=False)
    op.create_index("ix_commands_state", "commands", ["state"], unique=False)
    op.create_table(
        "gateways",
        sa.Column("gateway", sa.String(), nullable=False),
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("lease_until", sa.BigInteger(), nullable=False),
        sa.Column("seen_time", sa.BigInteger(), nullable=False),
        sa.Column("first_time", sa.BigInteger(), nullable=False),
        sa.Column("registered_time", sa.BigInteger(), nullable=False),
        sa.Column("commands_transport", sa.String(), nullable=False),
        sa.Column("outbox", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("gateway"),
    )
    op.create_index(op.f("ix_gateways_site"), "gateways", ["site"], unique=False)
    op.create_table(
        "positions",
        sa.Column("broker", sa.String(), nullable=False),
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("next_offset", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("broker", "topic", "partition"),
    )
    op.create_table(
        "schemas",
        sa.Column("fingerprint", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.Column("first_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint"),
    )
    op.create_table(
        "applications",
        sa.Column("gateway", sa.String(), nullable=False),
        sa.Column("application", sa.String(), nullable=False),
        sa.Column("driver", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("restarts", sa.Integer(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["gateway"], ["gateways.gateway"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("gateway", "application"),
    )
    op.create_table(
        "channels",
        sa.Column("gateway", sa.String(), nullable=False),
        sa.Column("application", sa.String(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column("grouping", sa.String(), nullable=False),
        sa.Column("direction", sa.String(), nullable=False),
        sa.Column("transport", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(length=16), nullable=False),
        sa.ForeignKeyConstraint(["gateway"], ["gateways.gateway"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("gateway", "application", "channel"),
    )
    op.create_index(op.f("ix_channels_topic"), "channels", ["topic"], unique=False)
    op.create_table(
        "command_specs",
        sa.Column("gateway", sa.String(), nullable=False),
        sa.Column("application", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("args", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["gateway"], ["gateways.gateway"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("gateway", "application", "name"),
    )
    op.create_table(
        "device_channels",
        sa.Column("gateway", sa.String(), nullable=False),
        sa.Column("application", sa.String(), nullable=False),
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("first_time", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["gateway"], ["gateways.gateway"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("gateway", "application", "device", "channel"),
    )
    op.create_table(
        "devices",
        sa.Column("gateway", sa.String(), nullable=False),
        sa.Column("application", sa.String(), nullable=False),
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("first_time", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["gateway"], ["gateways.gateway"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("gateway", "application", "device"),
    )
    op.create_index("ix_devices_device", "devices", ["device"], unique=False)
    op.create_table(
        "gateway_labels",
        sa.Column("gateway", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["gateway"], ["gateways.gateway"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("gateway", "key"),
    )
    op.create_table(
        "reports",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("gateway", sa.String(), nullable=False),
        sa.Column("application", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("recorded_time", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["gateway"], ["gateways.gateway"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("number"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_reports_gateway", "reports", ["gateway", "number"], unique=False)
    op.create_table(
        "topic_schemas",
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(length=16), nullable=False),
        sa.Column("reader", sa.Boolean(), nullable=False),
        sa.Column("first_time", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["fingerprint"],
            ["schemas.fingerprint"],
        ),
        sa.PrimaryKeyConstraint("topic", "fingerprint"),
    )
    op.create_table(
        "transports",
        sa.Column("gateway", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["gateway"], ["gateways.gateway"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("gateway", "name"),
    )

    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER audit_no_{verb.lower()} BEFORE {verb} ON audit BEGIN SELECT RAISE(ABORT, '{_NEVER}'); END"
            )
    else:
        op.execute(
            f"CREATE FUNCTION audit_refuse() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION '{_NEVER}'; END $$ LANGUAGE plpgsql"
        )
        op.execute("CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE ON audit EXECUTE FUNCTION audit_refuse()")


def downgrade() -> None:
    raise NotImplementedError("there is no form before the first")
