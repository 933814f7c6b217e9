"""The dashboard: pages rendered on the server, and the small scripts that keep them live."""
