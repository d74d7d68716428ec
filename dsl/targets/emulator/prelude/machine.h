// The machine: threads as fibers, warps, blocks of a cluster, and who has seen what (visibility frontiers).
#ifndef KA_MACHINE_H
#define KA_MACHINE_H
#include <deque>
#include <memory>
#include <vector>
#include "fiber.h"
#include "report.h"
#include "runtime.h"

static const int WARP = 32;

enum class Completion { late, early, random };

// What is known of others: everything that agent u did up to its clock frontier[u]. Agents are the threads of the
// cluster, and behind them what acts on its own: a barrier's bulk copies, a warpgroup's products, a thread's bulk stores.
typedef std::vector<ka_u32> Frontier;

struct Knowledge {
    Frontier seen;
    Frontier fenced;  // writes of threads that the async proxy sees, too
};
typedef std::shared_ptr<const Knowledge> Known;

// An asynchronous copy on its way to shared memory.
struct Copy {
    ka_u32 at;
    const ka_u8 *from;  // null: zeros
    int bytes;
    ka_u32 group;
    int line;
};

// Registers that hold elements as they were loaded: where a later store to shared memory takes its values from.
struct Loaded {
    const void *registers;
    int bytes;
    const ka_u8 *from;
    int array, size;
    ka_i64 column;  // of the first element, along the array's contiguous axis
};
static const int KEPT_LOADS = 64;

enum class State { ready, waiting, done };

struct WarpCall;

struct Thread {
    Fiber fiber;
    State state;
    const char *call;  // last call, for reports
    int line;
    ka_u32 clock;            // advances when others may learn of what came before
    Known known;
    int index, rank;         // thread in its block, block in the cluster
    ka_u32 shared_base;      // where its block's shared memory starts
    int waiting_on;          // barrier with phases, or -1
    int bulk;                // its bulk stores, or -1
    ka_u32 committed;        // groups closed; the open group has this number
    ka_u32 retired;          // groups waited for
    std::vector<ka_u32> retired_at;  // clock of the wait, by group
    std::deque<Copy> copies;         // not yet in memory
    int last_copy_line;      // of the newest copy, 0: none
    ka_u32 last_copy_group;
    WarpCall *lane_call;
    Loaded loads[KEPT_LOADS];
    int newest_load;
};

struct Warp {
    ka_u32 ready;    // lanes that can run
    ka_u32 arrived;  // lanes at a warp-wide call
};

// What acts on its own: the thread that asked for it last.
struct Agent {
    const char *what;
    int thread;
};

// The blocks of one cluster, which run together; clusters run one after another.
struct Cluster {
    int first;  // number of its first block
    std::vector<Thread> threads;
    std::vector<Warp> warps;
    std::vector<Agent> agents;
    std::vector<int> at_barrier;  // threads waiting, by block
    int at_cluster_barrier;
    bool abandoned;
};

struct Random {
    ka_u64 state;
    ka_u32 next() {  // splitmix64
        ka_u64 z = (state += 0x9e3779b97f4a7c15ull);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
        return (ka_u32)((z ^ (z >> 31)) >> 32);
    }
    int below(int n) { return (int)(next() % (ka_u32)n); }
};

struct Machine {
    Report report;
    Completion completion = Completion::late;
    Random random{0};
    int thread_count = 0, block_count = 0;  // threads of a block
    int cluster_size = 1;
    Cluster *cluster = nullptr;
    int current = 0;  // thread of the cluster
    bool cut_short = false;  // some block could not go on
    Fiber main;
    Stacks *stacks = nullptr;
    void (*entry)(void *const *) = nullptr;
    std::vector<void *> arguments;

    Thread &thread() { return cluster->threads[current]; }
    bool sees(int agent, ka_u32 clock) {
        if (agent == current) return true;
        const Frontier &seen = thread().known->seen;
        return agent < (int)seen.size() && seen[agent] >= clock;
    }
    bool is_thread(int agent) const { return agent < (int)cluster->threads.size(); }
    // The thread behind an agent.
    int thread_of(int agent) const {
        return is_thread(agent) ? agent : this->agent(agent).thread;
    }
    Agent &agent(int number) const { return cluster->agents[number - (int)cluster->threads.size()]; }
    int block_of(int agent) const { return cluster->first + thread_of(agent) / thread_count; }
};

static Machine machine;

static int new_agent(const char *what) {
    Cluster &c = *machine.cluster;
    c.agents.push_back({what, machine.current});
    return (int)(c.threads.size() + c.agents.size()) - 1;
}

static void name_thread(Fact &f, int agent) {
    f.block = machine.block_of(agent);
    f.thread = machine.thread_of(agent) % machine.thread_count;
}

static void name_other(Fact &f, int agent) {
    f.other_block = machine.block_of(agent);
    f.other_thread = machine.thread_of(agent) % machine.thread_count;
}

static Fact fact(const char *kind, const char *detail, int line) {
    Fact f;
    f.kind = kind;
    f.detail = detail;
    name_thread(f, machine.current);
    f.call = machine.thread().call;
    f.line = line;
    return f;
}

static void entered(const char *call, int line) {
    Thread &t = machine.thread();
    t.call = call;
    t.line = line;
}

// The body is compiled so that variables start with this byte: numbers of four bytes and more that hold nothing else
// were never given a value. Narrower ones may well be it.
static const ka_u8 UNSET = 0xfe;

// Accumulators in flight hold signalling NaNs of this high half over the line of their product. Arithmetic carries
// them on and makes them quiet.
static const ka_u32 IN_FLIGHT = 0x7fad, QUIET = 0x40;
static bool products_issued = false;

static bool is_in_flight(ka_u32 bits) { return (bits >> 16 | QUIET) == (IN_FLIGHT | QUIET); }

static void report_in_flight(ka_u32 bits, int line) {
    Fact f = fact("register-in-flight", "read", line);
    ka_u32 below = bits & 0xffff;  // two halves of marks: their line was lost in a conversion to 16 bits
    f.other_line = (below | QUIET) == (IN_FLIGHT | QUIET) ? 0 : (int)below;
    machine.report.add(f);
}

static void check_in_flight(const void *registers, int bytes, int line) {
    if (!products_issued) return;
    for (int i = 0; i + 4 <= bytes; i += 4) {
        ka_u32 held;
        memcpy(&held, static_cast<const ka_u8 *>(registers) + i, 4);
        if (is_in_flight(held)) return report_in_flight(held, line);
    }
}

extern "C" void ka_rt_nan(float x, int line) {
    ka_u32 bits;
    memcpy(&bits, &x, 4);
    if (products_issued && is_in_flight(bits)) report_in_flight(bits, line);
}

static void check_registers(const void *registers, int count, int size, int line) {
    check_in_flight(registers, count * size, line);
    const ka_u8 *held = static_cast<const ka_u8 *>(registers);
    for (int i = 0; size >= 4 && i < count; i++, held += size) {
        int same = 0;
        while (same < size && held[same] == UNSET) same++;
        if (same == size) return machine.report.add(fact("uninitialised-register", "", line));
    }
}

// Scheduling ------------------------------------------------------------------------------------------------------

static int pick_lane(ka_u32 ready) {
    if (machine.completion == Completion::late) return __builtin_ctz(ready);
    if (machine.completion == Completion::early) return 31 - __builtin_clz(ready);
    int skip = machine.random.below(__builtin_popcount(ready));
    while (skip--) ready &= ready - 1;
    return __builtin_ctz(ready);
}

// The next thread that can run: of the same warp if there is one, then of the same four, which act together as a
// warpgroup and so run as far ahead of the others as they can. -1: none.
static int pick_thread() {
    Cluster &b = *machine.cluster;
    int warps = (int)b.warps.size(), own = machine.current / WARP;
    if (b.warps[own].ready) return own * WARP + pick_lane(b.warps[own].ready);
    int first = own / 4 * 4;
    if (machine.completion == Completion::early) first = std::min(first + 3, warps - 1);
    if (machine.completion == Completion::random) first = machine.random.below(warps);
    for (int k = 0; k < warps; k++) {
        int w = machine.completion == Completion::early ? (first + warps - k) % warps : (first + k) % warps;
        if (b.warps[w].ready) return w * WARP + pick_lane(b.warps[w].ready);
    }
    return -1;
}

static void make_ready(int thread, bool ready) {
    Warp &w = machine.cluster->warps[thread / WARP];
    ka_u32 bit = 1u << (thread % WARP);
    w.ready = ready ? w.ready | bit : w.ready & ~bit;
}

// Something that goes on by itself takes a step, as nobody else can. False: there is nothing.
static bool land_one_box();

// Leave the current thread, which has said what it waits for.
static void yield_fiber() {
    Fiber &from = machine.thread().fiber;
    int next = -1;
    if (!machine.cluster->abandoned)
        do next = pick_thread();
        while (next < 0 && land_one_box());
    if (next < 0) return fiber_switch(from, machine.main);
    machine.current = next;
    Fiber &to = machine.thread().fiber;
    if (&to != &from) fiber_switch(from, to);
}

static void wait_here() {
    machine.thread().state = State::waiting;
    make_ready(machine.current, false);
    yield_fiber();
}

static void wake(int thread) {
    machine.cluster->threads[thread].state = State::ready;
    make_ready(thread, true);
}

static void abandon() {
    machine.cut_short = true;
    machine.cluster->abandoned = true;
    yield_fiber();
}

// Frontiers -------------------------------------------------------------------------------------------------------

static void raise_to(Frontier &f, int agent, ka_u32 clock) {
    if (agent >= (int)f.size()) f.resize(agent + 1, 0);
    f[agent] = std::max(f[agent], clock);
}

static void join(Frontier &into, const Frontier &from) {
    if (into.size() < from.size()) into.resize(from.size(), 0);
    for (size_t u = 0; u < from.size(); u++) into[u] = std::max(into[u], from[u]);
}

static void join(Knowledge &into, const Knowledge &from) {
    join(into.seen, from.seen);
    join(into.fenced, from.fenced);
}

// Both together. Threads that knew the same and learn the same share what comes of it.
static Known learned(const Known &old, const Known &news) {
    static Known last_old, last_news, last;
    if (old != last_old || news != last_news) {
        Knowledge both = *old;
        join(both, *news);
        last_old = old, last_news = news;
        last = std::make_shared<const Knowledge>(std::move(both));
    }
    return last;
}

// What those who arrive at a barrier know and did until then.
struct Gathering {
    Knowledge all;
    Known last;

    void add(int thread) {
        Thread &t = machine.cluster->threads[thread];
        if (t.known != last) join(all, *t.known);
        last = t.known;
        raise_to(all.seen, thread, t.clock++);
    }
    void add_current() { add(machine.current); }
    Known take() {
        Known taken = std::make_shared<const Knowledge>(std::move(all));
        all = Knowledge();
        last.reset();
        return taken;
    }
};

// Neighbouring threads that met learn what each of them knew and did.
static void share_knowledge(int first, int count) {
    Gathering gathered;
    for (int i = first; i < first + count; i++) gathered.add(i);
    Known all = gathered.take();
    for (int i = first; i < first + count; i++) machine.cluster->threads[i].known = all;
}

// They go on, too.
static void release(int first, int count) {
    share_knowledge(first, count);
    for (int i = first; i < first + count; i++)
        if (i != machine.current) wake(i);
}

// Block barrier -----------------------------------------------------------------------------------------------------

static void check_same_barrier(int first, int count) {
    const std::vector<Thread> &threads = machine.cluster->threads;
    for (int i = first; i < first + count; i++) {
        if (threads[i].line == threads[first].line) continue;
        Fact f = fact("divergence", "barrier", threads[i].line);
        name_thread(f, i);
        name_other(f, first);
        f.other_line = threads[first].line;
        machine.report.add(f);
        return;
    }
}

extern "C" void ka_rt_barrier(int line) {
    entered("ka_barrier", line);
    int rank = machine.thread().rank, count = machine.thread_count;
    int &arrived = machine.cluster->at_barrier[rank];
    if (++arrived < count) return wait_here();
    arrived = 0;
    check_same_barrier(rank * count, count);
    release(rank * count, count);
}

// Warp-wide calls: the last lane to arrive does the work for all ---------------------------------------------------

struct WarpCall {
    const char *name;
    int line;
    int variant;
    void (*perform)(WarpCall *const *lanes, int first);
};

static bool agree(WarpCall *const *lanes, int first, int width) {
    for (int i = 1; i < width; i++) {
        if (lanes[i]->name == lanes[0]->name && lanes[i]->line == lanes[0]->line && lanes[i]->variant == lanes[0]->variant)
            continue;
        Fact f = fact("divergence", width == WARP ? "warp" : "warpgroup", lanes[i]->line);
        name_thread(f, first + i);
        f.call = lanes[i]->name;
        name_other(f, first);
        f.other_line = lanes[0]->line;
        machine.report.add(f);
        return false;
    }
    return true;
}

static void warp_call(WarpCall *call) {
    Cluster &b = *machine.cluster;
    entered(call->name, call->line);
    int first = machine.current / WARP * WARP;
    Warp &w = b.warps[machine.current / WARP];
    machine.thread().lane_call = call;
    w.arrived |= 1u << (machine.current % WARP);
    if (w.arrived != ~0u) return wait_here();
    w.arrived = 0;
    WarpCall *lanes[WARP];
    for (int i = 0; i < WARP; i++) lanes[i] = b.threads[first + i].lane_call;
    if (!agree(lanes, first, WARP)) return abandon();
    call->perform(lanes, first);
    for (int i = 0; i < WARP; i++)
        if (first + i != machine.current) wake(first + i);
}

#endif
