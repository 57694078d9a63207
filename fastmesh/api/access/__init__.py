"""Who asks, and whether they may: tokens, tickets, and what stands for a caller."""
