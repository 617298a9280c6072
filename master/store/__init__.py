"""What the master keeps, in SQL: tables, migrations, and the statements over them."""
