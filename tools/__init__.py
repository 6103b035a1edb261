"""Developer helpers: proto generation, BUILD files, the layer table, Bazel rules."""
