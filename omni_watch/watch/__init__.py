"""The heart: units in, decisions judged, alerts committed. Pure of devices, models, brokers and databases."""
