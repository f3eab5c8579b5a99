"""MiniCPM-o 4.5, natively: from a second of the house to the choice between listening and speaking."""
