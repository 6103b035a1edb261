"""The candidate sources: learned towers, and the ones without learning."""
