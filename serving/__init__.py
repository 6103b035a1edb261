"""The request path: what a person should see now. The only gRPC server; `batch` is the same path without gRPC."""
