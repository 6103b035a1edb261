"""Experiments and bandits: configuration, assignment, policies, and statistics that can be read every day."""
