"""Simulators of hardware that the machine does not have."""
