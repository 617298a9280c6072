"""Steps of the database's form, run by Alembic when a sink is opened."""
