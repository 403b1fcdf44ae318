"""The two-stage classifier: a transformer's map of a picture guides a convolutional network."""
