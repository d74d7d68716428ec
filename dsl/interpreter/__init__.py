"""Numpy oracle of the tile language: `interpret` runs a text on arrays exactly as the language says."""

from kernelagent.dsl.interpreter.run import execute, interpret

__all__ = ["execute", "interpret"]
