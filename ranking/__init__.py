"""Ranking: orders about 500 candidates. Features by one shared function, LightGBM LambdaRank, a scorer that can be replaced."""
