"""Observers: log lines, numbers, the service manager. And the clocks."""
