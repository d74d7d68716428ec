"""What a kernel computes, over the reals, against what its problem asks for."""
