"""Settings: from flags, environment, file and defaults to one value."""
