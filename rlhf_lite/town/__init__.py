"""Pebbleford: a closed little town whose every fact a program can check. Knows nothing of learning."""
