"""A study's pictures: one description each, drawn by plotly on pages and matplotlib in files."""
