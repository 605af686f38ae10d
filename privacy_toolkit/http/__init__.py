"""HTTP on our own connections: pace, exchanges and faults; no vendor."""
