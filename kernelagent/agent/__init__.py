"""The loop: bound, plan, write, check, repair, evaluate, learn, steer; and the run folder that records it."""
