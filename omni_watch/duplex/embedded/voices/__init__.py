"""Voices that are models: text to phonemes to sound, in a program of its own."""
