"""From a URL to its result: schedule/ starts it, fetch/ brings its page, extract/ makes the document."""
