"""Obligations of a kernel text: what is proved, what was tested, what fails and where."""
