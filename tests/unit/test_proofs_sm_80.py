"""Every schedule that the compiler makes of its kernels for sm_80 is proved: nothing refuted, nothing left unknown."""

from __future__ import annotations

from support.proved import share_proved


def test_every_kernel_is_shown_and_most_for_all_sizes() -> None:
    share, bad = share_proved("sm_80")
    assert not bad
    assert share >= 0.8
