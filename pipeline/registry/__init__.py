"""The registry of releases: what there is, what changed, what answers, and copies elsewhere (docs/releases.md)."""
