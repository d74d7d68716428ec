"""Proofs about device schedules: what each block does, for every size that the shape class takes."""
