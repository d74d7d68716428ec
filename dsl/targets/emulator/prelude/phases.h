// Barriers with phases in shared memory (PTX ISA, mbarrier): arrivals, bytes, parity, and what their waits make known.
#ifndef KA_PHASES_H
#define KA_PHASES_H
#include "shared.h"

static const int LARGEST_COUNT = (1 << 20) - 1;  // of arrivals and of bytes

struct Phases {
    int number;       // in `phases`
    ka_u32 at;        // of the cluster's shared memory
    int agent;        // its bulk copies; their clock is the phase they count on, from 1
    int count;        // arrivals of each phase
    int pending;      // still missing in this one
    ka_i64 bytes;     // expected and not yet there
    ka_i64 expected, issued;  // bytes of this phase
    ka_u32 phase;     // how many have completed
    Known completed;  // what all completed phases make known
    Gathering arrived;  // of the phase in progress
    std::vector<int> waiting;
    int init_thread, init_line;
    ka_u32 init_clock;
    bool fenced;      // its init is visible to bulk copies and the cluster
    int expect_line, copy_line;
};

static std::deque<Phases> phases;
static std::map<ka_u32, int> phases_at;

static Fact phases_fact(const char *kind, const char *detail, const Phases &b, int line) {
    Fact f = shared_fact(kind, detail, b.at, 8, line);
    f.other_line = b.init_line;
    f.number = b.phase;
    return f;
}

// A call's barrier in a block of the cluster, or null where there is none: then it does nothing.
static Phases *phases_of(ka_u32 at, int rank, int line) {
    if (!shared_access(at, 8, 8, line)) return nullptr;
    auto found = phases_at.find(at + shared_base(rank));
    if (found == phases_at.end()) {
        machine.report.add(shared_fact("barrier-init", "never", at, 8, line));
        return nullptr;
    }
    Phases &b = phases[found->second];
    if (!machine.sees(b.init_thread, b.init_clock)) {
        Fact f = phases_fact("barrier-init", "unseen", b, line);
        name_other(f, b.init_thread);
        machine.report.add(f);
    } else if (!b.fenced && rank != machine.thread().rank) {
        machine.report.add(phases_fact("barrier-init", "unfenced", b, line));
    }
    return &b;
}

extern "C" void ka_rt_mbar_init(ka_u32 at, int arrivals, int line) {
    entered("ka_mbar_init", line);
    if (!shared_access(at, 8, 8, line)) return;
    at += machine.thread().shared_base;
    auto found = phases_at.find(at);
    if (found != phases_at.end()) return machine.report.add(phases_fact("barrier-init", "again", phases[found->second], line));
    note_store(at, 8, BARRIER, 0, 1, line);
    Phases b = {};
    b.at = at;
    b.count = b.pending = arrivals;
    b.completed = std::make_shared<const Knowledge>();
    b.init_thread = machine.current;
    b.init_line = line;
    b.init_clock = machine.thread().clock;
    b.agent = new_agent("bulk");
    if (arrivals < 1 || arrivals > LARGEST_COUNT) {
        Fact f = phases_fact("barrier-count", "init", b, line);
        f.number = arrivals;
        machine.report.add(f);
    }
    phases_at[at] = b.number = (int)phases.size();
    phases.push_back(b);
}

static void fence_inits() {
    for (Phases &b : phases)
        if (b.init_thread == machine.current) b.fenced = true;
}

extern "C" void ka_rt_mbar_fence_init(int line) {
    entered("ka_mbar_fence_init", line);
    fence_inits();
}

// What this thread and those it has seen stored, the async proxy sees from here on.
extern "C" void ka_rt_fence_async(int line) {
    entered("ka_fence_async", line);
    Thread &t = machine.thread();
    Knowledge k = *t.known;
    join(k.fenced, k.seen);
    raise_to(k.fenced, machine.current, t.clock++);
    t.known = std::make_shared<const Knowledge>(std::move(k));
    fence_inits();
}

// Phases --------------------------------------------------------------------------------------------------------------

// Bytes that arrive do not agree with those that were expected: this phase ends too early, or never.
static void check_bytes(const Phases &b) {
    if (b.issued == b.expected) return;
    Fact f = phases_fact("transaction-bytes", b.issued > b.expected ? "more" : "fewer", b, b.expect_line ? b.expect_line : b.copy_line);
    f.number = b.expected;
    f.bytes = (int)b.issued;
    machine.report.add(f);
}

static void wake_waiting(Phases &b) {
    for (int i : b.waiting) {
        Thread &t = machine.cluster->threads[i];
        t.known = learned(t.known, b.completed);
        t.waiting_on = -1;
        wake(i);
    }
    b.waiting.clear();
}

// Ends the phase if nothing is missing. Whoever waits, waits for this one.
static void settle(Phases &b) {
    if (b.pending || b.bytes) return;
    check_bytes(b);
    b.phase++;
    b.pending = b.count;
    b.expected = b.issued = 0;
    Knowledge all = *b.completed;
    join(all, *b.arrived.take());
    raise_to(all.seen, b.agent, b.phase);
    b.completed = std::make_shared<const Knowledge>(std::move(all));
    wake_waiting(b);
}

static void arrive(Phases &b, int line) {
    if (b.pending == 0) {
        Fact f = phases_fact("barrier-count", "arrivals", b, line);
        f.bytes = b.count;
        return machine.report.add(f);
    }
    b.arrived.add_current();
    b.pending--;
    settle(b);
}

// Bytes of a bulk copy that counted on `phase` have landed.
static void complete_bytes(Phases &b, ka_i64 bytes) {
    b.bytes -= bytes;
    settle(b);
}

static void land_some_boxes();
static void touches_peer(int rank, int agent, ka_u32 clock, const char *what, int line);

extern "C" void ka_rt_mbar_arrive(ka_u32 at, int block, int line) {
    entered(block < 0 ? "ka_mbar_arrive" : "ka_mbar_arrive_at", line);
    Thread &t = machine.thread();
    if (block >= machine.cluster_size) {
        Fact f = fact("no-such-block", "", line);
        f.number = block;
        return machine.report.add(f);
    }
    int rank = block < 0 ? t.rank : block;
    land_some_boxes();
    if (Phases *b = phases_of(at, rank, line)) {
        if (rank != t.rank) touches_peer(rank, machine.current, t.clock, "arrive", line);
        arrive(*b, line);
    }
}

extern "C" void ka_rt_mbar_expect(ka_u32 at, int bytes, int line) {
    entered("ka_mbar_expect", line);
    land_some_boxes();
    Phases *b = phases_of(at, machine.thread().rank, line);
    if (!b) return;
    b->bytes += bytes;
    b->expected += bytes;
    b->expect_line = line;
    if (bytes < 0 || b->bytes > LARGEST_COUNT) {
        Fact f = phases_fact("barrier-count", "bytes", *b, line);
        f.number = b->bytes;
        machine.report.add(f);
    }
    arrive(*b, line);
}

extern "C" void ka_rt_mbar_wait(ka_u32 at, int parity, int line) {
    entered("ka_mbar_wait", line);
    Thread &t = machine.thread();
    land_some_boxes();
    Phases *b = phases_of(at, t.rank, line);
    if (!b) return;
    if (parity & ~1) {
        Fact f = phases_fact("barrier-count", "parity", *b, line);
        f.number = parity;
        machine.report.add(f);
    }
    if ((b->phase & 1) != (ka_u32)(parity & 1)) {
        t.known = learned(t.known, b->completed);
        return;
    }
    b->waiting.push_back(machine.current);
    t.waiting_on = b->number;
    wait_here();
}

static std::string phases_wait(const Phases &b) {
    char text[200];
    snprintf(text, sizeof text, "barrier at byte %u, phase %u: %d of %d arrivals and %lld of %lld bytes are missing",
             b.at % shared.stride, b.phase, b.pending, b.count, b.bytes, b.expected);
    return text;
}

#endif
