"""The line: plan, compute, stage, commit."""
