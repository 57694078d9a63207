"""Bytes to requests and messages, and frames to bytes: machines that know no socket, no task and no clock."""
