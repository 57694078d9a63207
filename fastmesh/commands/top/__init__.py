"""``fastmesh top``: a running daemon, live."""
