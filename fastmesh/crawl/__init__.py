"""From a URL to its result: guard, fetch, extract."""
