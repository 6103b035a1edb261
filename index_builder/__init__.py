"""Vector indexes: exact search (the oracle), building, online search. The only FAISS."""
