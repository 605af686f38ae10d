"""The durable record of each run: the only folder with SQL."""
