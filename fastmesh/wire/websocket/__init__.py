"""WebSocket (RFC 6455), as a machine without I/O."""
