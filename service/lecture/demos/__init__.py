"""Pages that are no search: each takes its settings and returns `Findings`."""
