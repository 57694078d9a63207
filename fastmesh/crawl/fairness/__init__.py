"""Whose work is next, and work that is done in steps: of clients, of streams, beside the loop."""
