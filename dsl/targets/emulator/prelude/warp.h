// Warp-wide calls: shuffles, ldmatrix, matrix products. Index tables come from the atoms' distributions.
#ifndef KA_WARP_H
#define KA_WARP_H
#include "global.h"
#include "machine.h"
#include "shared.h"
#include "tables.h"

// Lanes that meet -----------------------------------------------------------------------------------------------------

static void meet(WarpCall *const *, int first) { share_knowledge(first, WARP); }

extern "C" void ka_rt_warp_barrier(int line) {
    WarpCall call;
    call.name = "ka_warp_barrier";
    call.line = line;
    call.variant = 0;
    call.perform = meet;
    warp_call(&call);
}

// Shuffles ------------------------------------------------------------------------------------------------------------

struct Shuffle : WarpCall {
    ka_u64 bits, result;
    int by;
};

static void shuffle(WarpCall *const *lanes, int first) {
    for (int i = 0; i < WARP; i++) {
        Shuffle *own = static_cast<Shuffle *>(lanes[i]);
        int from = own->variant == KA_SHUFFLE_XOR ? i ^ own->by : own->variant == KA_SHUFFLE_UP ? i - own->by : own->by;
        if (from < 0 && own->variant == KA_SHUFFLE_UP) from = i;
        if (from < 0 || from >= WARP) {
            Fact f = fact("lane-out-of-range", "", own->line);
            name_thread(f, first + i);
            f.number = from;
            machine.report.add(f);
            from = i;
        }
        own->result = static_cast<Shuffle *>(lanes[from])->bits;
    }
}

extern "C" ka_u64 ka_rt_shuffle(int mode, ka_u64 bits, int by, int line) {
    static const char *const names[] = {"ka_shfl_xor", "ka_shfl_up", "ka_shfl"};
    Shuffle call;
    call.name = names[mode];
    call.line = line;
    call.variant = mode;
    call.perform = shuffle;
    call.bits = bits;
    call.by = by;
    warp_call(&call);
    return call.result;
}

// ldmatrix ------------------------------------------------------------------------------------------------------------

struct LoadMatrix : WarpCall {
    ka_u32 *r;
    ka_u32 at;
};

// Whether 16 bytes are consecutive elements of one array: not gathered, not turned on the way.
static bool copied_whole(ka_u32 at) {
    const ByteRecord &b = shared.records[at], &last = shared.records[at + 15];
    if (!was_written(b) || b.array < 0 || last.array != b.array) return false;
    return last.column - b.column == (ka_u32)(15 / arrays[b.array].size);
}

// The rows of one 8x8 matrix come from one place in the rows of the array they were copied from. If their columns
// differ by whole 16-byte chunks, the writer and the reader swizzle differently.
static void check_columns(WarpCall *const *lanes, int matrix, int thread, int line) {
    const ByteRecord *first = nullptr;
    for (int row = 0; row < 8; row++) {
        const LoadMatrix *lane = static_cast<LoadMatrix *>(lanes[matrix * 8 + row]);
        if (lane->at % 16 || lane->at + 16 > shared.size) return;
        ka_u32 at = lane->at + machine.thread().shared_base;
        const ByteRecord &b = shared.records[at];
        if (!copied_whole(at) || (first && b.array != first->array)) continue;
        if (!first) {
            first = &b;
            continue;
        }
        ka_i64 difference = (ka_i64)b.column - (ka_i64)first->column;
        if (difference == 0 || difference * arrays[b.array].size % 16) continue;
        Fact f = shared_fact("torn-matrix", "", lane->at, 16, line);
        name_thread(f, thread + matrix * 8 + row);
        f.array = b.array;
        f.number = difference;
        name_other(f, b.thread);
        f.other_line = (int)b.line;
        return machine.report.add(f);
    }
}

static void load_matrix(WarpCall *const *lanes, int first) {
    const LoadMatrix *call = static_cast<LoadMatrix *>(lanes[0]);
    int count = call->variant & 7, line = call->line, last = machine.current;
    bool transposed = call->variant & 8;
    ka_u16 rows[32][8];
    memset(rows, 0xff, sizeof rows);
    for (int i = 0; i < count * 8; i++) {
        ka_u32 at = static_cast<LoadMatrix *>(lanes[i])->at;
        machine.current = first + i;
        if (!shared_access(at, 16, 16, line)) continue;
        at += machine.thread().shared_base;
        note_read(at, 16, line);
        memcpy(rows[i], shared.bytes + at, 16);
    }
    machine.current = last;
    for (int m = 0; m < count; m++) check_columns(lanes, m, first, line);
    for (int i = 0; i < WARP; i++)
        for (int m = 0; m < count; m++) {
            ka_u32 half[2];
            for (int v = 0; v < 2; v++) {
                int at = ka_ldmatrix_table[transposed][i][v];
                half[v] = rows[m * 8 + at / 8][at % 8];
            }
            static_cast<LoadMatrix *>(lanes[i])->r[m] = half[0] | half[1] << 16;
        }
}

extern "C" void ka_rt_ldmatrix(ka_u32 *r, ka_u32 at, int count, bool transposed, int line) {
    LoadMatrix call;
    call.name = "ka_ldmatrix";
    call.line = line;
    call.variant = count | (transposed ? 8 : 0);
    call.perform = load_matrix;
    call.r = r;
    call.at = at;
    warp_call(&call);
}

// stmatrix: as ldmatrix, but each lane's registers go to the rows that the lanes name.
static void store_matrix(WarpCall *const *lanes, int first) {
    const LoadMatrix *call = static_cast<LoadMatrix *>(lanes[0]);
    int count = call->variant & 7, line = call->line, own = machine.current;
    ka_u16 rows[32][8];
    for (int i = 0; i < WARP; i++)
        for (int m = 0; m < count; m++)
            for (int half = 0; half < 2; half++) {
                int place = ka_ldmatrix_table[call->variant >> 3 & 1][i][half];
                rows[m * 8 + place / 8][place % 8] = (ka_u16)(static_cast<LoadMatrix *>(lanes[i])->r[m] >> (16 * half));
            }
    for (int i = 0; i < count * 8; i++) {
        ka_u32 at = static_cast<LoadMatrix *>(lanes[i])->at;
        machine.current = first + i;
        if (!shared_access(at, 16, 16, line)) continue;
        at += machine.thread().shared_base;
        note_store(at, 16, -1, 0, 1, line);
        memcpy(shared.bytes + at, rows[i], 16);
    }
    machine.current = own;
}

extern "C" void ka_rt_stmatrix(ka_u32 at, const ka_u32 *r, int count, bool transposed, int line) {
    static const char *const names[] = {"", "ka_stmatrix_x1", "ka_stmatrix_x2", "", "ka_stmatrix_x4"};
    check_in_flight(r, count * 4, line);
    LoadMatrix call;
    call.name = names[count];
    call.line = line;
    call.variant = count | (transposed ? 8 : 0);
    call.perform = store_matrix;
    call.r = const_cast<ka_u32 *>(r);
    call.at = at;
    warp_call(&call);
}

// The elected thread ------------------------------------------------------------------------------------------------------

struct Elect : WarpCall {
    bool chosen;
};

// Which lane is not said, but always the same one.
static void elect(WarpCall *const *lanes, int) {
    static const int random = (int)(machine.random.state % WARP);
    int chosen = machine.completion == Completion::late ? 0 : machine.completion == Completion::early ? WARP - 1 : random;
    for (int i = 0; i < WARP; i++) static_cast<Elect *>(lanes[i])->chosen = i == chosen;
}

extern "C" bool ka_rt_elect(int line) {
    Elect call;
    call.name = "ka_elect";
    call.line = line;
    call.variant = 0;
    call.perform = elect;
    warp_call(&call);
    return call.chosen;
}

// Matrix products -------------------------------------------------------------------------------------------------------

struct Multiply : WarpCall {
    void *d;
    const ka_u32 *a, *b;
};

// Element v of a fragment, `bits` wide, low elements in low bits.
static inline ka_u32 element_bits(const ka_u32 *registers, int v, int bits) {
    int each = 32 / bits;
    return bits == 32 ? registers[v] : registers[v / each] >> (v % each * bits) & ((1u << bits) - 1);
}

static float operand(int atom, ka_u32 bits) {
    switch (atom) {
        case KA_MMA_TF32: {
            float x;
            bits &= 0xffffe000;  // the unit ignores the lower bits
            memcpy(&x, &bits, 4);
            return x;
        }
        case KA_MMA_S8: return (float)(signed char)bits;
        case KA_MMA_U8: return (float)bits;
        case KA_MMA_BF16: return decoded(KA_SMALL_BF16)[bits];
        case KA_MMA_F16: return decoded(KA_SMALL_F16)[bits];
        case KA_MMA_E4M3: return decoded(KA_SMALL_E4M3)[bits];
        default: return decoded(KA_SMALL_E5M2)[bits];
    }
}

// Products are exact; a sum over k is rounded once to the accumulator's type.
template <class D> static void accumulate(const MmaTable &t, const float *a, const float *b, WarpCall *const *lanes) {
    for (int i = 0; i < WARP; i++) {
        D *d = static_cast<D *>(static_cast<Multiply *>(lanes[i])->d);
        for (int v = 0; v < t.d_values; v++) {
            int row = t.d[i][v] / 8, column = t.d[i][v] % 8;
            double sum = (double)d[v];
            for (int k = 0; k < t.k; k++) sum += (double)a[row * t.k + k] * b[column * t.k + k];
            d[v] = (D)sum;
        }
    }
}

static void multiply(WarpCall *const *lanes, int first) {
    int last = machine.current;
    for (int i = 0; i < WARP; i++) {
        machine.current = first + i;
        check_registers(static_cast<Multiply *>(lanes[i])->d, 4, 4, lanes[i]->line);
    }
    machine.current = last;
    int atom = lanes[0]->variant;
    const MmaTable &t = ka_mma_tables[atom];
    float a[16 * 32], b[8 * 32];
    for (int i = 0; i < WARP; i++) {
        const Multiply *lane = static_cast<Multiply *>(lanes[i]);
        for (int v = 0; v < t.a_values; v++) a[t.a[i][v]] = operand(atom, element_bits(lane->a, v, t.bits));
        for (int v = 0; v < t.b_values; v++) b[t.b[i][v]] = operand(atom, element_bits(lane->b, v, t.bits));
    }
    if (atom == KA_MMA_S8 || atom == KA_MMA_U8) accumulate<int>(t, a, b, lanes);
    else accumulate<float>(t, a, b, lanes);
}

extern "C" void ka_rt_mma(int atom, void *d, const ka_u32 *a, const ka_u32 *b, int line) {
    Multiply call;
    call.name = "ka_mma";
    call.line = line;
    call.variant = atom;
    call.perform = multiply;
    call.d = d;
    call.a = a;
    call.b = b;
    warp_call(&call);
}

#endif
