"""The outer side of the server: requests, forms, the description of the interface, metrics."""
