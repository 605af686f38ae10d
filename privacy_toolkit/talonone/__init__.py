"""The Talon.One Integration API: the only folder that knows the vendor."""
