"""The daemon's description of itself: what each route takes and answers, as OpenAPI and JSON Schema."""
