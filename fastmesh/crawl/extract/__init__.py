"""From a page's bytes to its document, in processes beside the daemon."""
