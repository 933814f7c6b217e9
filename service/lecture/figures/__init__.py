"""Pictures of pages that are searches: each takes the page's runs and returns `Findings`."""
