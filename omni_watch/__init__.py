"""Omni Watch: keeps what people asked it to wait for, and speaks up by itself when it happens."""

import os

__version__ = "0.1.0"

# Nothing leaves the house: the Linux wheels of onnxruntime 1.32 keep a device id and report to their maker, from the
# moment of import on, unless this says no. Set here so that it holds before any import, and in programs we start.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
