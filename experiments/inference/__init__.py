"""What an experiment's data say: estimates, always-valid and fixed-horizon intervals, corrections, sample ratio."""
