"""Models that label rows, and the pipeline that runs them; it knows nothing of Lance or engines."""
