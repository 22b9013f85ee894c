"""The record's SQL: `migrations/` in order of number, `queries/` by name (`server/store/sql.py`)."""
