"""Callers, and whether they may ask: tokens, and the tickets that stand for them in a URL."""
