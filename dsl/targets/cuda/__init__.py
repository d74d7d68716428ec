"""The CUDA target: CUDA C++ -> cubin, what is in the cubin, and its launch.

Its parts are imported where they are used, so that importing this package stays cheap.
"""
