"""What an operator sees of the service: metrics, logs, traces. One observation a call feeds them all."""
