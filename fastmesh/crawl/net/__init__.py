"""Which URL is meant, and where it may be dialled: URLs, names, addresses, the guard."""
