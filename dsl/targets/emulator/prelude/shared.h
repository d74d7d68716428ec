// Shared memory with a record for every byte: who wrote it last, who has read it since, and whether the write has
// become visible. Barriers order; shuffles, ldmatrix and mma do not (nothing in PTX says that they would). The blocks
// of a cluster have theirs one behind the other: `at` counts from the first block's start once the block is known.
#ifndef KA_SHARED_H
#define KA_SHARED_H
#include "cluster.h"

static const ka_u32 NO_GROUP = 0xffffffffu, NONE = 0xffffffffu;
static const int BARRIER = -2;  // in place of an array: bytes of a barrier with phases

struct ByteRecord {
    ka_u32 clock;    // of the writer, at the write or issue; 0: not written in this cluster
    ka_u32 group;    // the writer's copy group, or NO_GROUP
    ka_u32 readers;  // list in `pool`, or NONE
    ka_u32 line;
    ka_u32 column;   // of the element it was copied from, along the array's contiguous axis
    ka_u16 thread;   // or what else wrote it
    ka_i16 array;    // where it was copied from, or -1
};

// Lanes of one warp that read at one clock (or other agents, 32 together).
struct Readers {
    ka_u32 lanes, clock, next;
    ka_u16 warp;
    ka_u32 line;
};

struct SharedMemory {
    ka_u8 *bytes = nullptr;
    ka_u32 size = 0;    // of one block
    ka_u32 stride = 0;  // from block to block
    std::vector<ByteRecord> records;
    std::vector<Readers> pool;
    ka_u32 free = NONE;

    void allocate(ka_u32 count, int blocks) {
        size = count;
        stride = (count + 1024) / 1024 * 1024;
        bytes = static_cast<ka_u8 *>(aligned_alloc(1024, (size_t)stride * blocks));
    }
    // New blocks find bytes that are NaN in every float type and remember nothing.
    void begin_cluster(int blocks) {
        size_t all = (size_t)stride * (blocks - 1) + size;
        memset(bytes, 0xff, all);
        records.assign(all, ByteRecord{0, NO_GROUP, NONE, 0, 0, 0, -1});
        pool.clear();
        free = NONE;
    }
};

static SharedMemory shared;

static ka_u32 shared_base(int rank) { return (ka_u32)rank * shared.stride; }

// Readers -----------------------------------------------------------------------------------------------------------

static ka_u32 new_readers() {
    if (shared.free == NONE) {
        shared.pool.push_back({});
        return (ka_u32)shared.pool.size() - 1;
    }
    ka_u32 taken = shared.free;
    shared.free = shared.pool[taken].next;
    return taken;
}

// The first lane whose read the current thread has not seen, or -1.
static int unseen_reader(const Readers &r) {
    for (ka_u32 lanes = r.lanes; lanes; lanes &= lanes - 1) {
        int thread = r.warp * WARP + __builtin_ctz(lanes);
        if (!machine.sees(thread, r.clock)) return thread;
    }
    return -1;
}

static void drop_readers(ByteRecord &b) {
    for (ka_u32 i = b.readers; i != NONE;) {
        ka_u32 next = shared.pool[i].next;
        shared.pool[i].next = shared.free;
        shared.free = i;
        i = next;
    }
    b.readers = NONE;
}

static void push_reader(ByteRecord &b, int agent, ka_u32 clock, int line) {
    ka_u32 made = new_readers();
    shared.pool[made] = Readers{1u << (agent % WARP), clock, b.readers, (ka_u16)(agent / WARP), (ka_u32)line};
    b.readers = made;
}

// Note a read. Reads that the reader has seen are dropped: whoever sees this one sees those.
static void add_reader(ByteRecord &b, ka_u32 clock, int line) {
    ka_u16 warp = (ka_u16)(machine.current / WARP);
    ka_u32 bit = 1u << (machine.current % WARP);
    for (ka_u32 i = b.readers; i != NONE; i = shared.pool[i].next) {
        Readers &r = shared.pool[i];
        if (r.warp == warp && r.clock == clock) {
            r.lanes |= bit;
            return;
        }
        if (unseen_reader(r) < 0) {
            r.warp = warp, r.clock = clock, r.lanes = bit, r.line = (ka_u32)line;
            return;
        }
    }
    push_reader(b, machine.current, clock, line);
}

// Note a read that an agent other than a thread finishes later, at `clock` of its own.
static void add_late_reader(ByteRecord &b, int agent, ka_u32 clock, int line) {
    for (ka_u32 i = b.readers; i != NONE; i = shared.pool[i].next) {
        Readers &r = shared.pool[i];
        if (r.warp != agent / WARP || r.lanes != 1u << (agent % WARP)) continue;
        r.clock = clock, r.line = (ka_u32)line;
        return;
    }
    push_reader(b, agent, clock, line);
}

// Findings ----------------------------------------------------------------------------------------------------------

static Fact shared_fact(const char *kind, const char *detail, ka_u32 at, int bytes, int line) {
    Fact f = fact(kind, detail, line);
    f.at = shared.stride ? at % shared.stride : at;
    f.bytes = bytes;
    return f;
}

static void report_pair(const char *kind, const char *detail, ka_u32 at, int bytes, int line, int other, ka_u32 other_line) {
    Fact f = shared_fact(kind, detail, at, bytes, line);
    name_other(f, other);
    f.other_line = (int)other_line;
    machine.report.add(f);
}

static bool was_written(const ByteRecord &b) { return b.clock != 0; }

static bool in_flight(const ByteRecord &b) {
    return b.group != NO_GROUP && machine.cluster->threads[b.thread].retired <= b.group;
}

// The clock from which on the last write is the writer's past.
static ka_u32 written_at(const ByteRecord &b) {
    return b.group == NO_GROUP ? b.clock : machine.cluster->threads[b.thread].retired_at[b.group];
}

// Whether the current thread may rely on the last write: its own, or ordered before by what it has seen.
static bool sees_write(const ByteRecord &b) { return machine.sees(b.thread, written_at(b)); }

// Whether the async proxy sees it, too, on behalf of the current thread: a proxy fence lies between.
static bool fenced_write(const ByteRecord &b) {
    if (!machine.is_thread(b.thread)) return true;
    const Frontier &fenced = machine.thread().known->fenced;
    return b.thread < fenced.size() && fenced[b.thread] >= written_at(b);
}

// `at` within the block.
static bool shared_access(ka_u32 at, int bytes, int align, int line) {
    if (at > shared.size || shared.size - at < (ka_u32)bytes) {
        Fact f = shared_fact("shared-out-of-bounds", "", at, bytes, line);
        f.number = shared.size;
        machine.report.add(f);
        return false;
    }
    if (at % (ka_u32)align == 0) return true;
    Fact f = shared_fact("misaligned", "shared", at, bytes, line);
    f.number = align;
    machine.report.add(f);
    return false;
}

static const char *in_flight_detail(const ByteRecord &b) {
    return machine.cluster->threads[b.thread].committed <= b.group ? "uncommitted" : "committed";
}

static void report_unreadable(const ByteRecord &b, ka_u32 at, int bytes, int line) {
    if (!was_written(b)) return machine.report.add(shared_fact("uninitialised-shared", "", at, bytes, line));
    const char *kind = "race", *detail = b.group == NO_GROUP ? "write-read" : "copy-read";
    if (in_flight(b)) kind = "missing-wait", detail = in_flight_detail(b);
    else if (!machine.is_thread(b.thread)) kind = "missing-wait", detail = "bulk";
    report_pair(kind, detail, at, bytes, line, b.thread, b.line);
}

// True: nothing wrong with reading this byte.
static inline bool readable(const ByteRecord &b, ka_u32 at, int bytes, int line) {
    if (was_written(b) && !in_flight(b) && sees_write(b)) return true;
    report_unreadable(b, at, bytes, line);
    return false;
}

static bool readable_by_async(const ByteRecord &b, ka_u32 at, int bytes, int line) {
    if (!readable(b, at, bytes, line)) return false;
    if (fenced_write(b)) return true;
    report_pair("missing-proxy-fence", "read", at, bytes, line, b.thread, b.line);
    return false;
}

enum class Way { store, copy, bulk };

// Of the last write, as far as it stands in the way of another one.
static void report_overwrite(const ByteRecord &b, Way way, ka_u32 at, int bytes, int line) {
    const char *kind = "race", *detail = way == Way::store ? "write-write" : "write-copy";
    if (b.array == BARRIER) kind = "barrier-overwritten", detail = "";
    else if (in_flight(b)) kind = "overwrite-in-flight", detail = in_flight_detail(b);
    else if (sees_write(b)) kind = "missing-proxy-fence", detail = "write";
    else if (!machine.is_thread(b.thread)) kind = "overwrite-in-flight", detail = "bulk";
    report_pair(kind, detail, at, bytes, line, b.thread, b.line);
}

static inline bool overwritable(const ByteRecord &b, Way way) {
    return !was_written(b) || (b.array != BARRIER && !in_flight(b) && sees_write(b) && (way != Way::bulk || fenced_write(b)));
}

static void report_reader(int reader, int reader_line, Way way, ka_u32 at, int bytes, int line) {
    bool late = !machine.is_thread(reader);
    const char *detail = late ? machine.agent(reader).what : way == Way::store ? "read-write" : "read-copy";
    report_pair(late ? "overwrite-in-flight" : "race", detail, at, bytes, line, reader, reader_line);
}

static inline bool writable(const ByteRecord &b, Way way, ka_u32 at, int bytes, int line) {
    if (!overwritable(b, way)) {
        report_overwrite(b, way, at, bytes, line);
        return false;
    }
    for (ka_u32 i = b.readers; i != NONE; i = shared.pool[i].next) {
        int reader = unseen_reader(shared.pool[i]);
        if (reader < 0) continue;
        report_reader(reader, (int)shared.pool[i].line, way, at, bytes, line);
        return false;
    }
    return true;
}

// Accesses ------------------------------------------------------------------------------------------------------------

static void note_read(ka_u32 at, int bytes, int line) {
    bool fine = true;
    ka_u32 clock = machine.thread().clock;
    for (ka_u32 i = at; i < at + (ka_u32)bytes; i++) {
        ByteRecord &b = shared.records[i];
        if (fine) fine = readable(b, i, bytes, line);
        add_reader(b, clock, line);
    }
}

// What was copied here and is now gone was never read: harmless, but often a sign of the wrong stage.
static void note_unread(const ByteRecord &b, ka_u32 at) {
    if (!was_written(b) || b.array < 0 || b.readers != NONE) return;
    Fact f = shared_fact("unread-copy", "", at, 1, (int)b.line);
    name_thread(f, b.thread);
    machine.report.add(f);
}

// What is written: by whom, and where it was copied from.
struct Written {
    int agent;
    ka_u32 clock, group;
    Way way;
    int array;
    ka_i64 column;  // of the first element
    int size;       // of an element
};

static void note_write(ka_u32 at, int bytes, const Written &w, int line) {
    bool fine = true;
    note_unread(shared.records[at], at);
    for (int k = 0; k < bytes; k++) {
        ByteRecord &b = shared.records[at + k];
        if (fine) fine = writable(b, w.way, at + k, bytes, line);
        drop_readers(b);
        b = ByteRecord{w.clock, w.group, NONE, (ka_u32)line, (ka_u32)(w.column + k / w.size), (ka_u16)w.agent, (ka_i16)w.array};
    }
}

static void note_store(ka_u32 at, int bytes, int array, ka_i64 column, int size, int line) {
    note_write(at, bytes, Written{machine.current, machine.thread().clock, NO_GROUP, Way::store, array, column, size}, line);
}

extern "C" void ka_rt_shared_load(void *to, ka_u32 at, int bytes, int line) {
    entered("ka_lds", line);
    memset(to, 0xff, bytes);
    if (!shared_access(at, bytes, bytes, line)) return;
    at += machine.thread().shared_base;
    note_read(at, bytes, line);
    memcpy(to, shared.bytes + at, bytes);
}

// The load that put these bytes into these registers, if they still hold what it loaded.
static const Loaded *loaded(const void *registers, int bytes) {
    const Thread &t = machine.thread();
    const ka_u8 *from = static_cast<const ka_u8 *>(registers);
    for (int i = 0; i < KEPT_LOADS; i++) {
        const Loaded &l = t.loads[(t.newest_load + KEPT_LOADS - i) % KEPT_LOADS];
        ka_i64 ahead = from - static_cast<const ka_u8 *>(l.registers);
        if (l.bytes == 0 || ahead < 0 || ahead + bytes > l.bytes) continue;
        return memcmp(from, l.from + ahead, bytes) == 0 ? &l : nullptr;
    }
    return nullptr;
}

extern "C" void ka_rt_shared_store(ka_u32 at, const void *from, int bytes, int line) {
    entered("ka_sts", line);
    check_in_flight(from, bytes, line);
    if (!shared_access(at, bytes, bytes, line)) return;
    at += machine.thread().shared_base;
    const Loaded *l = loaded(from, bytes);
    ka_i64 ahead = l ? (const ka_u8 *)from - (const ka_u8 *)l->registers : 0;
    if (l) note_store(at, bytes, l->array, l->column + ahead / l->size, l->size, line);
    else note_store(at, bytes, -1, 0, 1, line);
    memcpy(shared.bytes + at, from, bytes);
}

// Asynchronous copies -------------------------------------------------------------------------------------------------

static void land(const Copy &c) {
    if (c.from) memcpy(shared.bytes + c.at, c.from, c.bytes);
    else memset(shared.bytes + c.at, 0, c.bytes);
}

// Where completion is random, each copy in flight may land at any call about copies.
static void land_some(Thread &t) {
    for (size_t i = 0; i < t.copies.size();) {
        if (machine.random.below(3)) {
            i++;
            continue;
        }
        land(t.copies[i]);
        t.copies.erase(t.copies.begin() + i);
    }
}

static void issue(const Copy &c) {
    Thread &t = machine.thread();
    if (machine.completion == Completion::early) return land(c);
    t.copies.push_back(c);
    if (machine.completion == Completion::random) land_some(t);
}

extern "C" void ka_rt_commit(int line) {
    entered("ka_commit", line);
    Thread &t = machine.thread();
    t.committed++;
    if (machine.completion == Completion::random) land_some(t);
}

extern "C" void ka_rt_wait_group(int pending, int line) {
    entered("ka_wait_group", line);
    Thread &t = machine.thread();
    if (machine.completion == Completion::random) land_some(t);
    ka_u32 until = t.committed > (ka_u32)pending ? t.committed - (ka_u32)pending : 0;
    for (size_t i = 0; i < t.copies.size() && t.copies[i].group < until;) {
        land(t.copies[i]);
        t.copies.erase(t.copies.begin() + i);
    }
    for (; t.retired < until; t.retired++) t.retired_at.push_back(t.clock);
}

// At the end: copies that nobody read or waited for are noted.
static void note_forgotten_copies() {
    for (ka_u32 at = 0; at < shared.records.size(); at += 4) note_unread(shared.records[at], at);
    Cluster &c = *machine.cluster;
    for (size_t i = 0; i < c.threads.size(); i++) {
        Thread &t = c.threads[i];
        if (t.last_copy_line == 0 || t.last_copy_group < t.retired) continue;
        machine.current = (int)i;
        machine.report.add(fact("unwaited-copy", "", t.last_copy_line));
    }
}

#endif
