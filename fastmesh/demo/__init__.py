"""The sample site of `fastmesh demo`."""
