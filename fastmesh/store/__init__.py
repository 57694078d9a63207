"""Where the text of streams lies."""
