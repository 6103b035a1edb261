"""The two towers: what they read (numpy), what they learn (TensorFlow, TFRS), what they leave for serving."""

import os

# tensorflow_recommenders needs Keras 2, and asks when it is imported
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
