"""Ears for words: where there is a voice, and what it says. Recognition runs as a program of its own."""
