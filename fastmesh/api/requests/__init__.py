"""What a request says: its body, query and header fields, bounded, read and checked."""
