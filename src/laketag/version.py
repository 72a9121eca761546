"""Which laketag this is."""

VERSION = "0.1.0"
