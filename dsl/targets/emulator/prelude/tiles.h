// Operands of warpgroup products in shared memory: descriptors are decoded as the hardware does (PTX ISA, wgmma,
// shared memory matrix layout), every byte is checked for the async proxy.
#ifndef KA_TILES_H
#define KA_TILES_H
#include "bulk.h"
#include "warp.h"

static const int PRODUCT_ROWS = 64, PRODUCT_K_BYTES = 32, LARGEST_N = 256;

struct Descriptor {
    ka_u32 start, lbo, sbo, base;
    int span;  // bytes of the rows over which chunks are exchanged, or 0
};

static Descriptor decode(ka_u64 bits) {
    static const int spans[] = {0, 128, 64, 32};
    return {(ka_u32)(bits & 0x3fff) << 4, (ka_u32)(bits >> 16 & 0x3fff) << 4, (ka_u32)(bits >> 32 & 0x3fff) << 4,
            (ka_u32)(bits >> 49 & 7), spans[bits >> 62]};
}

// `lines` of `chunks` 16-byte chunks each: lines are rows or columns where k is contiguous, else they are k.
struct Tile {
    Descriptor descriptor;
    bool turned;  // m or n is contiguous
    int extent;   // of m or n
    int size;     // bytes of an element

    int k() const { return PRODUCT_K_BYTES / size; }
    int lines() const { return turned ? k() : extent; }
    int chunks() const { return turned ? extent * size / CHUNK : PRODUCT_K_BYTES / CHUNK; }

    // Within the block's shared memory.
    ka_u32 place(int line, int chunk) const {
        const Descriptor &d = descriptor;
        int wide = d.span / CHUNK;  // chunks of a row, 0: rows are single chunks
        ka_u32 at = d.start;
        if (!turned) at += line / 8 * d.sbo + (wide ? line % 8 * d.span + chunk * CHUNK : line % 8 * CHUNK + chunk * d.lbo);
        else if (wide) at += chunk / wide * d.lbo + chunk % wide * CHUNK + line % 8 * d.span + line / 8 * d.sbo;
        else at += chunk * d.sbo + line % 8 * CHUNK + line / 8 * d.lbo;
        return at ^ ((((at >> 7) - d.base) & (ka_u32)(wide - (wide > 0))) << 4);
    }
};

// Where elements lie is one thing for all rows: a line whose chunk was copied from other columns tells that
// the copy and the descriptor do not mean the same swizzle or the same distances.
static void check_tile_columns(const Tile &tile, ka_u32 base, int line) {
    for (int chunk = 0; chunk < tile.chunks(); chunk++) {
        const ByteRecord *first = nullptr;
        for (int l = 0; l < tile.lines(); l++) {
            ka_u32 at = base + tile.place(l, chunk);
            const ByteRecord &b = shared.records[at];
            if (!copied_whole(at) || (first && first->array != b.array)) continue;
            if (!first) first = &b;
            if (b.column == first->column) continue;
            Fact f = shared_fact("torn-matrix", "wgmma", at, CHUNK, line);
            f.array = b.array;
            f.number = (ka_i64)b.column - (ka_i64)first->column;
            name_other(f, b.thread);
            f.other_line = (int)b.line;
            return machine.report.add(f);
        }
    }
}

// Distances that are too short let two elements share bytes.
static void check_tile_distances(const Tile &tile, ka_u32 base, const char *operand, int line) {
    std::vector<ka_u32> places;
    for (int l = 0; l < tile.lines(); l++)
        for (int chunk = 0; chunk < tile.chunks(); chunk++) places.push_back(tile.place(l, chunk));
    std::sort(places.begin(), places.end());
    auto twice = std::adjacent_find(places.begin(), places.end());
    if (twice != places.end()) machine.report.add(shared_fact("overlapping-tile", operand, base + *twice, CHUNK, line));
}

// Every thread of the group answers for the bytes; those that know the same answer once.
static std::vector<int> speakers(int first) {
    std::vector<int> found;
    for (int i = first; i < first + GROUP; i++) {
        bool same = false;
        for (int other : found) same = same || machine.cluster->threads[i].known == machine.cluster->threads[other].known;
        if (!same) found.push_back(i);
    }
    return found;
}

// False: some of it lies outside.
static bool note_tile_read(const Tile &tile, const char *operand, int first, int agent, ka_u32 clock, int line) {
    ka_u32 base = machine.cluster->threads[first].shared_base;
    std::vector<int> asked = speakers(first);
    bool fine = true;
    for (int l = 0; l < tile.lines(); l++)
        for (int chunk = 0; chunk < tile.chunks(); chunk++) {
            ka_u32 at = tile.place(l, chunk);
            machine.current = first;
            if (!shared_access(at, CHUNK, CHUNK, line)) return false;
            note_late_read(base + at, CHUNK, agent, clock, line);
            for (size_t i = 1; fine && i < asked.size(); i++) {
                machine.current = asked[i];
                fine = readable_by_async(shared.records[base + at], base + at, CHUNK, line);
            }
        }
    machine.current = first;
    check_tile_columns(tile, base, line);
    check_tile_distances(tile, base, operand, line);
    return true;
}

// Calls f(m or n, k, bits) for every element.
template <class F> static void each_operand(const Tile &tile, ka_u32 base, F f) {
    int across = CHUNK / tile.size;
    for (int l = 0; l < tile.lines(); l++)
        for (int chunk = 0; chunk < tile.chunks(); chunk++) {
            const ka_u8 *from = shared.bytes + base + tile.place(l, chunk);
            for (int i = 0; i < across; i++) {
                ka_u32 bits = 0;
                memcpy(&bits, from + i * tile.size, tile.size);
                if (tile.turned) f(chunk * across + i, l, bits);
                else f(l, chunk * across + i, bits);
            }
        }
}

#endif
