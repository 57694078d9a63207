"""From a URL to the bytes of its page."""
