"""What a URL means, what its name resolves to, and which addresses may be dialled."""
