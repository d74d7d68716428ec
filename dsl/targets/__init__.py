"""Machines that kernels are compiled for."""
