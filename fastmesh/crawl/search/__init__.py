"""From a query to URLs."""
