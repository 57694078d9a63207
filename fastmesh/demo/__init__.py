"""The sample site of ``fastmesh demo``: what it serves, and what each page is expected to become."""
