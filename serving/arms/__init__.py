"""Arms of experiments that have a release of their own: opened beside the one that answers, scored in its shadow, watched while they answer."""
