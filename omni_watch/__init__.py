"""Omni Watch: keeps what people asked it to wait for, and speaks up by itself when it happens."""

__version__ = "0.1.0"
