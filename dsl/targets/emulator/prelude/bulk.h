// Bulk copies of boxes between global and shared memory (PTX ISA, cp.async.bulk.tensor): zero outside, clipped,
// swizzled. Loads count their bytes on a barrier with phases, stores complete by groups of the issuing thread.
#ifndef KA_BULK_H
#define KA_BULK_H
#include "global.h"
#include "phases.h"

static const int CHUNK = 16;  // bytes that stay together under every swizzle
static const int BOX_ALIGNMENT = 128;

// Chunks change places with those of other rows, by bits of the address itself.
static ka_u32 swizzled(ka_u32 at, int span) { return at ^ ((at >> 7 & (ka_u32)(span / CHUNK - (span > 0))) << 4); }

struct Box {
    ka_tensor_map map;
    int corner[KA_MAP_RANK];
    ka_u32 at;      // of the cluster's shared memory
    int barrier;    // loads: in `phases`
    ka_u32 phase;   // loads: that they count on; stores: their group
    bool add;
};

static int row_bytes(const ka_tensor_map &m) { return m.box[0] * m.element_bytes; }

static int rows_of(const ka_tensor_map &m) {
    int rows = 1;
    for (int k = 1; k < m.rank; k++) rows *= m.box[k];
    return rows;
}

// A row of a box: its elements [low, high) exist, `first` bytes from the array's start is the row's first element.
struct Row {
    int number, low, high;
    ka_i64 first;
};

static Row row_of(const Box &box, int number) {
    const ka_tensor_map &m = box.map;
    Row row = {number, 0, 0, m.first + box.corner[0] * m.strides[0]};
    bool inside = true;
    for (int k = 1, rest = number; k < m.rank; rest /= m.box[k++]) {
        ka_i64 at = box.corner[k] + (ka_i64)(rest % m.box[k]) * m.steps[k];
        inside = inside && at >= 0 && at < (ka_i64)m.dims[k];
        row.first += at * m.strides[k];
    }
    if (!inside) return row;
    row.low = std::max(0, std::min((int)m.box[0], -box.corner[0]));
    row.high = (int)std::max<ka_i64>(row.low, std::min<ka_i64>(m.box[0], (ka_i64)m.dims[0] - box.corner[0]));
    return row;
}

static ka_u32 place_in_box(const Box &box, int row, int byte) {
    return swizzled(box.at + (ka_u32)(row * row_bytes(box.map) + byte), box.map.swizzle);
}

// Global side -----------------------------------------------------------------------------------------------------------

// The element of an array whose storage holds a byte offset; strides are positive, as maps ask for.
static ka_place place_of(const Array &a, ka_i64 bytes) {
    ka_place p = {};
    ka_i64 rest = bytes / a.size;
    p.rank = a.rank;
    bool taken[KA_MAX_RANK] = {};
    for (int n = 0; n < a.rank; n++) {
        int widest = -1;
        for (int k = 0; k < a.rank; k++)
            if (!taken[k] && (widest < 0 || a.strides[k] > a.strides[widest])) widest = k;
        taken[widest] = true;
        if (a.dims[widest] == 1 || a.strides[widest] <= 0) continue;
        p.at[widest] = rest / a.strides[widest];
        rest %= a.strides[widest];
    }
    return p;
}

// Calls f(storage element, place) for each element of the box that exists. False: the map leaves the array.
template <class F> static bool each_element(const Box &box, int line, F f) {
    const Array &a = arrays[box.map.array];
    for (int r = 0; r < rows_of(box.map); r++) {
        Row row = row_of(box, r);
        for (int i = row.low; i < row.high; i++) {
            ka_i64 bytes = row.first + i * a.size, element = bytes / a.size - a.lowest;
            ka_place p = place_of(a, bytes);
            if (element < 0 || element >= a.elements) {
                machine.report.add(global_fact("global-out-of-bounds", "", box.map.array, &p, -1, 0, line));
                return false;
            }
            f(element, p);
        }
    }
    return true;
}

static bool read_box(const Box &box, int line) {
    Array &a = arrays[box.map.array];
    a.any_line = (ka_u32)line;
    return each_element(box, line, [&](ka_i64 element, const ka_place &p) {
        if (a.role == Role::in) a.reads[element] = READ;
        else read_element(a.stores[element], a.role, Access{box.map.array, -1, element}, &p, 0, line);
    });
}

// Shared side -----------------------------------------------------------------------------------------------------------

static bool box_access(ka_u32 at, const ka_tensor_map &m, int line) {
    int period = std::max(BOX_ALIGNMENT, m.swizzle * 8);
    return shared_access(at, row_bytes(m) * rows_of(m), period, line);
}

static bool rank_fits(const ka_tensor_map &m, int rank, int line) {
    if (m.rank == rank) return true;
    Fact f = fact("box-rank", "", line);
    f.number = rank;
    f.bytes = m.rank;
    machine.report.add(f);
    return false;
}

static Box box_of(const ka_tensor_map &m, const int *corner, ka_u32 at) {
    Box box = {m, {}, at, -1, 0, false};
    for (int k = 0; k < m.rank; k++) box.corner[k] = corner[k];
    return box;
}

// Loads -----------------------------------------------------------------------------------------------------------------

static std::deque<Box> flying;

static void land_load(const Box &box) {
    const Array &a = arrays[box.map.array];
    int size = box.map.element_bytes, bytes = row_bytes(box.map);
    std::vector<ka_u8> row_held(bytes);
    for (int r = 0; r < rows_of(box.map); r++) {
        Row row = row_of(box, r);
        std::fill(row_held.begin(), row_held.end(), 0);
        if (row.high > row.low)
            memcpy(&row_held[row.low * size], a.base + row.first + row.low * size, (row.high - row.low) * size);
        for (int at = 0; at < bytes; at += CHUNK) memcpy(shared.bytes + place_in_box(box, r, at), &row_held[at], CHUNK);
    }
    complete_bytes(phases[box.barrier], (ka_i64)bytes * rows_of(box.map));
}

static void land_box(size_t i) {
    Box box = flying[i];
    flying.erase(flying.begin() + i);
    land_load(box);
}

static bool land_one_box() {
    if (flying.empty()) return false;
    land_box(machine.completion == Completion::random ? (size_t)machine.random.below((int)flying.size()) : 0);
    return true;
}

// Where completion is random, each box in flight may land at any call about copies, barriers and products.
static void land_some_boxes() {
    if (machine.completion != Completion::random) return;
    for (size_t i = 0; i < flying.size();) {
        if (machine.random.below(3)) i++;
        else land_box(i);
    }
}

static void note_box_written(const Box &box, int agent, ka_u32 clock, int line) {
    int size = box.map.element_bytes;
    for (int r = 0; r < rows_of(box.map); r++)
        for (int at = 0; at < row_bytes(box.map); at += CHUNK) {
            Written w = {agent, clock, NO_GROUP, Way::bulk, box.map.array, box.corner[0] + at / size, size};
            note_write(place_in_box(box, r, at), CHUNK, w, line);
        }
}

// What a block must have waited for, or be told of, before its shared memory goes away.
struct Touch {
    const char *what;
    ka_u32 clock;
    int line, thread;
};
static std::map<std::pair<int, int>, Touch> touches;  // by block of the cluster and agent

static void touches_peer(int rank, int agent, ka_u32 clock, const char *what, int line) {
    touches[{rank, agent}] = Touch{what, clock, line, machine.current};
}

// Into one block of the cluster.
static void load_into(const Box &from, int rank, ka_u32 barrier, int line) {
    Phases *b = phases_of(barrier, rank, line);
    if (!b) return;
    if (!b->fenced && rank == machine.thread().rank) machine.report.add(phases_fact("barrier-init", "unfenced", *b, line));
    Box box = from;
    box.at += shared_base(rank);
    box.barrier = b->number;
    box.phase = b->phase;
    b->issued += row_bytes(box.map) * rows_of(box.map);
    b->copy_line = line;
    machine.agent(b->agent).thread = machine.current;
    note_box_written(box, b->agent, b->phase + 1, line);
    touches_peer(rank, b->agent, b->phase + 1, "load", line);
    if (machine.completion == Completion::early) land_load(box);
    else flying.push_back(box);
}

extern "C" void ka_rt_tma_load(ka_u32 at, const ka_tensor_map *map, ka_u32 barrier, int blocks, const int *corner, int rank,
                               int line) {
    entered(blocks ? "ka_tma_load_multicast" : "ka_tma_load", line);
    Box box = box_of(*map, corner, at);
    if (!rank_fits(*map, rank, line) || !box_access(at, *map, line) || !read_box(box, line)) return;
    if (!blocks) load_into(box, machine.thread().rank, barrier, line);
    for (int peer = 0; blocks >> peer; peer++) {
        if (!(blocks >> peer & 1)) continue;
        if (peer < machine.cluster_size) {
            load_into(box, peer, barrier, line);
            continue;
        }
        Fact f = fact("no-such-block", "", line);
        f.number = peer;
        machine.report.add(f);
    }
    land_some_boxes();
}

// Stores ----------------------------------------------------------------------------------------------------------------

struct Bulk {
    int reader, writer;           // agents: of shared memory read, of global memory written
    ka_u32 committed, read;       // groups closed; groups whose shared memory is free again
    std::deque<Box> boxes;        // not yet in memory
    int last_line;
    ka_u32 last_group;
};

static std::deque<Bulk> bulks;

static Bulk &own_bulk() {
    Thread &t = machine.thread();
    if (t.bulk < 0) {
        t.bulk = (int)bulks.size();
        bulks.push_back(Bulk{new_agent("bulk-store"), new_agent("bulk-store"), 0, 0, {}, 0, 0});
    }
    return bulks[t.bulk];
}

static void add_element(int number, ka_u8 *to, const ka_u8 *from) {
    switch (number) {
        case KA_F32: return add_number<float>(to, from);
        case KA_F64: return add_number<double>(to, from);
        case KA_I32: return add_number<int>(to, from);
        case KA_F16: return add_small(to, from, KA_SMALL_F16);
        case KA_BF16: return add_small(to, from, KA_SMALL_BF16);
    }
}

static void land_store(const Box &box) {
    const Array &a = arrays[box.map.array];
    int size = box.map.element_bytes;
    for (int r = 0; r < rows_of(box.map); r++) {
        Row row = row_of(box, r);
        for (int i = row.low; i < row.high; i++) {
            const ka_u8 *from = shared.bytes + place_in_box(box, r, i * size);
            ka_u8 *to = a.base + row.first + i * size;
            if (box.add) add_element(box.map.number, to, from);
            else memcpy(to, from, size);
        }
    }
}

static void land_stores(Bulk &bulk, ka_u32 until) {
    while (!bulk.boxes.empty() && bulk.boxes.front().phase < until) {
        land_store(bulk.boxes.front());
        bulk.boxes.pop_front();
    }
}

static bool note_box_stored(const Box &box, const Bulk &bulk, int line) {
    Array &a = arrays[box.map.array];
    if (a.role == Role::in) {
        ka_place p = place_of(a, box.map.first);
        machine.report.add(global_fact("store-to-input", "", box.map.array, &p, -1, 0, line));
        return false;
    }
    a.any_line = (ka_u32)line;
    return each_element(box, line, [&](ka_i64 element, const ka_place &p) {
        check_store(a.stores[element], box.add, Access{box.map.array, -1, element}, &p, 0, line);
        stored(a.stores[element], bulk.writer, bulk.committed + 1, box.add, line);
    });
}

// What an agent will read: the current thread answers for it.
static void note_late_read(ka_u32 at, int bytes, int agent, ka_u32 clock, int line) {
    bool fine = true;
    for (ka_u32 i = at; i < at + (ka_u32)bytes; i++) {
        ByteRecord &b = shared.records[i];
        if (fine) fine = readable_by_async(b, i, bytes, line);
        add_late_reader(b, agent, clock, line);
    }
}

static void note_box_read(const Box &box, const Bulk &bulk, int line) {
    int size = box.map.element_bytes;
    for (int r = 0; r < rows_of(box.map); r++) {
        Row row = row_of(box, r);
        for (int i = row.low; i < row.high; i++)
            note_late_read(place_in_box(box, r, i * size), size, bulk.reader, bulk.committed + 1, line);
    }
}

extern "C" void ka_rt_tma_store(const ka_tensor_map *map, ka_u32 at, bool add, const int *corner, int rank, int line) {
    entered(add ? "ka_tma_add" : "ka_tma_store", line);
    Box box = box_of(*map, corner, at);
    if (!rank_fits(*map, rank, line) || !box_access(at, *map, line)) return;
    Bulk &bulk = own_bulk();
    box.at += machine.thread().shared_base;
    box.add = add;
    box.phase = bulk.committed;
    bulk.last_line = line;
    bulk.last_group = bulk.committed;
    note_box_read(box, bulk, line);
    if (!note_box_stored(box, bulk, line)) return;
    if (machine.completion == Completion::early) land_store(box);
    else bulk.boxes.push_back(box);
    land_some_boxes();
}

extern "C" void ka_rt_tma_commit(int line) {
    entered("ka_tma_commit", line);
    Bulk &bulk = own_bulk();
    bulk.committed++;
    if (machine.completion == Completion::random) land_stores(bulk, (ka_u32)machine.random.below((int)bulk.committed + 1));
}

extern "C" void ka_rt_tma_wait(int pending, bool reads_only, int line) {
    entered(reads_only ? "ka_tma_wait_read" : "ka_tma_wait", line);
    Bulk &bulk = own_bulk();
    land_some_boxes();
    ka_u32 until = bulk.committed > (ka_u32)pending ? bulk.committed - (ka_u32)pending : 0;
    land_stores(bulk, until);
    bulk.read = std::max(bulk.read, until);
    Knowledge k = *machine.thread().known;
    raise_to(k.seen, bulk.reader, until);
    if (!reads_only) raise_to(k.seen, bulk.writer, until);
    machine.thread().known = std::make_shared<const Knowledge>(std::move(k));
}

// The end ---------------------------------------------------------------------------------------------------------------

static bool told_of(int rank, int agent, ka_u32 clock) {
    Cluster &c = *machine.cluster;
    for (int i = rank * machine.thread_count; i < (rank + 1) * machine.thread_count; i++) {
        if (i == agent) return true;
        const Frontier &seen = c.threads[i].known->seen;
        if (agent < (int)seen.size() && seen[agent] >= clock) return true;
    }
    return false;
}

static void report_exit(const char *what, int rank, int thread, int line) {
    machine.current = thread;
    Fact f = fact("exit-in-flight", what, line);
    f.other_block = machine.cluster->first + rank;
    machine.report.add(f);
}

// Blocks whose shared memory went away while somebody could still touch it.
static void check_exits() {
    for (auto &t : touches)
        if (!told_of(t.first.first, t.first.second, t.second.clock))
            report_exit(t.second.what, t.first.first, t.second.thread, t.second.line);
    for (size_t i = 0; i < machine.cluster->threads.size(); i++) {
        const Thread &t = machine.cluster->threads[i];
        if (t.bulk < 0 || !bulks[t.bulk].last_line || bulks[t.bulk].last_group < bulks[t.bulk].read) continue;
        report_exit("store", t.rank, (int)i, bulks[t.bulk].last_line);
    }
}

#endif
