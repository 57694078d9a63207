"""Answers that were had before, and what RFC 9111 says of them."""
