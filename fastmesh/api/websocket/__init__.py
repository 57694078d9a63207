"""What is said over a WebSocket: the commands of a client, and the streams that it is subscribed to."""
