"""The sections, by the part of fastmesh that they are about; a new setting goes into one of them."""
