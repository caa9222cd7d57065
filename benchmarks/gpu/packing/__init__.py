"""Carry `gpu-check` to a machine that reaches no package registry, in parts of limited size."""
