"""Everything that speaks SQL: connections, roles, migrations, stores and the embedded server."""
