// sm_80, shapes: made, 128 threads, 0 bytes of shared memory
#line 1 "kernel"
KA_KERNEL(k_scaled_sum, 128, 1)(ka_array<ka_f32, 2> a_x, ka_array<ka_f32, 2> a_z, ka_array<ka_f32, 2> a_y, int d_M, int d_N, ka_f32 s_scale) {
    KA_PROLOGUE
    const int tid = ka_thread();
    a_x.stride[1] = 1;
    const int t0 = (tid >> 5);
    const int t1 = (tid & 31) * 4;
#line 1 "kernel"
    const int n1 = ((int)(((ka_u32)d_M + 7u) / 8u));
    const int n2 = ((int)(((ka_u32)d_N + 127u) / 128u));
    const int tile3 = ka_block();
    const int place4 = tile3 / n2;
    const int place5 = tile3 % n2;
    const int v_i = place4 * 8;
    const int v_j = place5 * 128;
#line 2 "kernel"
#line 4 "kernel"
    const int i6 = v_i + t0;
    const int i7 = v_j + t1;
    const int hi8 = (d_M - v_i) - t0;
    ka_f32 x_3[8];
    KA_UNROLL for (int r = 0; r < 2; ++r) {
#line 4 "kernel"
        ka_ldg<4>(x_3 + r * 4, ka_at(a_x, i6 + r * 4, i7), r * 4 < hi8, 0.0f);
    }
    ka_f32 x_4[8];
    KA_UNROLL for (int r = 0; r < 8; ++r) {
#line 5 "kernel"
        x_4[r] = (x_3[r] * s_scale);
    }
#line 6 "kernel"
    const int i9 = v_i + t0;
    const int i10 = v_j + t1;
    const int hi11 = (d_M - v_i) - t0;
    ka_f32 z_5[8];
    KA_UNROLL for (int r = 0; r < 2; ++r) {
#line 6 "kernel"
        ka_ldg<4>(z_5 + r * 4, ka_at(a_z, i9 + r * 4, i10), r * 4 < hi11, 0.0f);
    }
    ka_f32 x_6[8];
    KA_UNROLL for (int r = 0; r < 8; ++r) {
#line 7 "kernel"
        x_6[r] = (x_4[r] + z_5[r]);
    }
#line 8 "kernel"
    const int i12 = v_i + t0;
    const int i13 = v_j + t1;
    const int hi14 = (d_M - v_i) - t0;
    KA_UNROLL for (int r = 0; r < 2; ++r) {
#line 8 "kernel"
        ka_stg<4>(ka_at(a_y, i12 + r * 4, i13), x_6 + r * 4, r * 4 < hi14);
    }
}
