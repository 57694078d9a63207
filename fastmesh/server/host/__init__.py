"""The machine around the daemon: systemd, file limits, its process, the collector of cycles."""
