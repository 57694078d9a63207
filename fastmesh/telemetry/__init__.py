"""What a daemon says of itself: logs, metrics, spans, and the bugs that it survived."""
