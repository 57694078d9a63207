"""robots.txt (RFC 9309): had once, kept for a while, judged by."""
