"""robots.txt (RFC 9309): fetched once for each origin, kept for a while, and asked about each URL."""
