"""A state in PostgreSQL, for runs that many machines may look at and work on."""
