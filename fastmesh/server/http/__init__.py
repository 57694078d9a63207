"""HTTP connections: the order of requests, one exchange, a stream on it."""
