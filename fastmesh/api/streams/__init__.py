"""The endpoints that open, read, list and end streams."""
