"""What Home Assistant, or anything else on the broker, sees of the house and may ask of it."""
