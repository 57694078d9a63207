"""Machines without I/O: HTTP/1.1 in, frames out.  Nothing here knows a socket, a task or a clock."""
