"""The night: stages wired to one another by the files they leave, and the judgement of what they made."""
