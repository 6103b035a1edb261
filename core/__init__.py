"""The contracts between the parts: names, ids, configuration, artifacts, errors. Imports nothing else of ours."""
