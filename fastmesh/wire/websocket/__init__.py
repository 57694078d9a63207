"""WebSocket (RFC 6455): the handshake, and the machine of a connection behind it."""
