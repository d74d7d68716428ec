// sm_80, shapes: made, 128 threads, 32768 bytes of shared memory
#line 1 "kernel"
KA_KERNEL(k_gemm, 128, 1)(ka_array<ka_bf16, 2> a_a, ka_array<ka_bf16, 2> a_b, ka_array<ka_bf16, 2> a_c, int d_M, int d_K, int d_N) {
    KA_PROLOGUE
    const int tid = ka_thread();
    a_a.stride[1] = 1;
    a_b.stride[1] = 1;
    a_c.stride[1] = 1;
    const int t0 = (tid >> 2);
    const int t1 = (tid & 3) * 8;
    const int t2 = (tid & 3) * 16 + (tid >> 2) * 64;
    const int t3 = (t2 ^ (t2 >> 3 & 48));
    const int t4 = (tid & 15) * 64 + ((tid >> 4) & 1) * 16 + (tid >> 6) * 4096;
    const int t5 = (t4 ^ (t4 >> 3 & 48));
    const int t6 = (tid & 7) * 64 + ((tid >> 3) & 1) * 16 + ((tid >> 4) & 1) * 512 + ((tid >> 5) & 1) * 4096;
    const int t7 = (t6 ^ (t6 >> 3 & 48));
    const int t8 = ((tid >> 2) & 7) + (tid >> 6) * 64;
    const int t9 = (tid & 3) * 2 + ((tid >> 5) & 1) * 64;
#line 1 "kernel"
    const int n1 = ((int)(((ka_u32)d_M + 127u) / 128u));
    const int n2 = ((int)(((ka_u32)d_N + 127u) / 128u));
    const int tile3 = ka_block();
    const int width4 = 8 * n2;
    const int first5 = tile3 / width4 * 8;
    const int high6 = ka_min(n1 - first5, 8);
    const int inner7 = tile3 % width4;
    const int place8 = first5 + inner7 % high6;
    const int place9 = inner7 / high6;
    const int v_i = place8 * 128;
    const int v_j = place9 * 128;
#line 2 "kernel"
    const int i10 = v_i + t0;
    const int hi11 = (d_M - v_i) - t0;
    const int hi12 = d_K - t1;
    KA_UNROLL for (int r = 0; r < 4; ++r) {
#line 2 "kernel"
        ka_cp_async<16>(t3 + r * 2048, ka_at(a_a, i10 + r * 32, t1), r * 32 < hi11 && 0 < hi12);
    }
#line 3 "kernel"
    const int i13 = v_j + t0;
    const int hi14 = (d_N - v_j) - t0;
    const int hi15 = d_K - t1;
    KA_UNROLL for (int r = 0; r < 4; ++r) {
#line 3 "kernel"
        ka_cp_async<16>(16384 + t3 + r * 2048, ka_at(a_b, i13 + r * 32, t1), r * 32 < hi14 && 0 < hi15);
    }
#line 4 "kernel"
    ka_commit();
#line 13 "kernel"
    ka_f32 acc_2[128];
    KA_UNROLL for (int r = 0; r < 128; ++r) {
        acc_2[r] = 0.0f;
    }
    #pragma unroll 1
    for (int v_k = 0; v_k < d_K; v_k += 32) {
#line 6 "kernel"
        const int i16 = v_i + t0;
        const int i17 = (v_k + 32) + t1;
        const int hi18 = (d_M - v_i) - t0;
        const int hi19 = (d_K - v_k - 32) - t1;
        const ka_u32 s20 = (int)((ka_u32)((int)((ka_u32)v_k / 32u) + 1) % 2u) * 8192;
        KA_UNROLL for (int r = 0; r < 4; ++r) {
#line 6 "kernel"
            ka_cp_async<16>(s20 + t3 + r * 2048, ka_at(a_a, i16 + r * 32, i17), r * 32 < hi18 && 0 < hi19);
        }
#line 7 "kernel"
        const int i21 = v_j + t0;
        const int i22 = (v_k + 32) + t1;
        const int hi23 = (d_N - v_j) - t0;
        const int hi24 = (d_K - v_k - 32) - t1;
        const ka_u32 s25 = (int)((ka_u32)((int)((ka_u32)v_k / 32u) + 1) % 2u) * 8192 + 16384;
        KA_UNROLL for (int r = 0; r < 4; ++r) {
#line 7 "kernel"
            ka_cp_async<16>(s25 + t3 + r * 2048, ka_at(a_b, i21 + r * 32, i22), r * 32 < hi23 && 0 < hi24);
        }
#line 8 "kernel"
        ka_commit();
        ka_wait_group<1>();
        ka_barrier();
        const ka_u32 s28 = (int)((ka_u32)(int)((ka_u32)v_k / 32u) % 2u) * 8192;
        const ka_u32 s29 = (int)((ka_u32)(int)((ka_u32)v_k / 32u) % 2u) * 8192 + 16384;
        KA_UNROLL for (int k = 0; k < 2; ++k) {
            ka_u32 a26[16];
            KA_UNROLL for (int i = 0; i < 4; ++i) {
#line 11 "kernel"
                ka_ldmatrix_x4(a26 + i * 4, s28 + (t5 ^ (k * 32)) + i * 1024);
            }
            ka_u32 b27[16];
            KA_UNROLL for (int j = 0; j < 4; ++j) {
#line 11 "kernel"
                ka_ldmatrix_x4(b27 + j * 4, s29 + (t7 ^ (k * 32)) + j * 1024);
            }
            KA_UNROLL for (int i = 0; i < 4; ++i)
            KA_UNROLL for (int j = 0; j < 8; ++j) {
#line 11 "kernel"
                ka_mma_m16n8k16_bf16(acc_2 + (i * 8 + j) * 4, a26 + i * 4, b27 + j * 2);
            }
        }
#line 12 "kernel"
        ka_barrier();
    }
    ka_bf16 x_5[128];
    KA_UNROLL for (int r = 0; r < 128; ++r) {
#line 14 "kernel"
        x_5[r] = ka_cast<ka_bf16>(acc_2[r]);
    }
#line 15 "kernel"
    const int i30 = v_i + t8;
    const int i31 = v_j + t9;
    const int hi32 = (d_M - v_i) - t8;
    const int hi33 = (d_N - v_j) - t9;
    KA_UNROLL for (int r2 = 0; r2 < 4; ++r2)
    KA_UNROLL for (int r1 = 0; r1 < 8; ++r1)
    KA_UNROLL for (int r0 = 0; r0 < 2; ++r0) {
#line 15 "kernel"
        ka_stg<2>(ka_at(a_c, i30 + r0 * 8 + r2 * 16, i31 + r1 * 8), x_5 + r0 * 2 + r1 * 4 + r2 * 32, r0 * 8 + r2 * 16 < hi32 && r1 * 8 < hi33);
    }
}
