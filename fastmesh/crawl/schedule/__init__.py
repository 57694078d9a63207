"""Which URL is started when: a stream's backlog, and slots at hosts and of the total."""
