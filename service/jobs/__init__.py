"""Jobs: what the service runs for its users on a Ray cluster."""
