"""Rows for training: each once in an epoch, whatever the ranks, workers and interruptions."""
