"""Every run that was tried: documents, SQLite, PostgreSQL, comparison, pages."""
