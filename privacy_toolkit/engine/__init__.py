"""Plan, runner, limits and events: the one engine for every job."""
