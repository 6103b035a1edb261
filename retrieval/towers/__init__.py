"""The two towers: what they read (numpy), what they learn (TensorFlow, TFRS), what they leave for serving."""
