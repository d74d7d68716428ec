/* Packing of bf16 and f16 operands to float panels. */
#ifndef KA_MMA_HALF_H
#define KA_MMA_HALF_H

#include "convert.h"
#include "mma.h"

#define KA_PACK(name) name##_bf16
#define KA_PACK_T uint16_t
#define KA_PACK_LOAD(p) vf_load_bf16(p)
#define KA_PACK_LOAD_N(p, n) vf_load_bf16_n(p, n, 0.0f)
#define KA_PACK_ONE(p) f32_from_bf16(*(p))
#include "pack.h"

#define KA_PACK(name) name##_f16
#define KA_PACK_T uint16_t
#define KA_PACK_LOAD(p) vf_load_f16(p)
#define KA_PACK_LOAD_N(p, n) vf_load_f16_n(p, n, 0.0f)
#define KA_PACK_ONE(p) f32_from_f16(*(p))
#include "pack.h"

#endif
