"""A study as files: `study.json`, tables, pictures, one page, and the pieces of a paper."""
