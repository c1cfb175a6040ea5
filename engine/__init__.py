"""The painter: networks, training, inference and nightly learning.  Importing this package imports no torch."""

__version__ = "0.1.0"
