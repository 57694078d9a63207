"""Fair queues, and work that is done in steps: a client, a stream or a large page holds up no other."""
