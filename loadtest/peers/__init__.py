"""What fastmesh is compared with: each peer prints one line with its address and streams the same frames."""
