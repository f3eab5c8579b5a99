"""What is true of the house: values and their rules, with no device, model, broker or database in sight.

Standard library and numpy types only. Every value is immutable; functions return new ones.
"""
