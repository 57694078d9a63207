"""The shell: sockets, connections, the pump, the daemon."""
