"""Where tasks run: one small file an engine, one contract for all."""
