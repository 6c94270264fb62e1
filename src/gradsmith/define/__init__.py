"""WRITE: a forward and a formula per argument become an op that is right everywhere."""
