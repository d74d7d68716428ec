// Warpgroup products (PTX ISA, wgmma): issued by 128 threads, done as late as the wait that forces them. Between the
// call and that wait accumulators hold marked NaNs, so that whoever reads or writes them is found.
#ifndef KA_PRODUCTS_H
#define KA_PRODUCTS_H
#include <list>
#include "roles.h"
#include "tiles.h"

static const int A_REGISTERS = 4;

// The same registers of all threads of a group.
struct Registers {
    ka_u8 *at[GROUP];
    int bytes;

    bool same(const Registers &o) const { return at[0] == o.at[0] && bytes == o.bytes; }
    bool overlaps(const Registers &o) const { return at[0] < o.at[0] + o.bytes && o.at[0] < at[0] + bytes; }
    std::vector<ka_u8> content() const {
        std::vector<ka_u8> held((size_t)GROUP * bytes);
        for (int i = 0; i < GROUP; i++) memcpy(&held[(size_t)i * bytes], at[i], bytes);
        return held;
    }
    // The first thread whose registers are not these, or -1.
    int differs(const std::vector<ka_u8> &held) const {
        for (int i = 0; i < GROUP; i++)
            if (memcmp(&held[(size_t)i * bytes], at[i], bytes)) return i;
        return -1;
    }
};

// An accumulator in flight.
struct Sum {
    Registers registers;
    std::vector<ka_u8> values;
    int pending;  // products
    int line;     // of the first of them
};

// Registers that products have used, as they were at the last fence or when the last product gave them back.
struct Kept {
    Registers registers;
    std::vector<ka_u8> content;
};

struct Product {
    int atom, n, line;
    ka_u32 group;
    bool from_registers, begins;  // begins: the sum is not read
    Registers a;
    std::vector<ka_u8> a_values;
    Tile a_tile, b_tile;
    Sum *sum;
};

struct Products {
    int agent = -1;
    ka_u32 committed = 0, retired = 0;
    bool fenced = false;
    std::map<const ka_u8 *, int> settled;  // touched by normal code since the last fence: first byte, bytes
    std::deque<Product> queue;
    size_t done = 0;  // products at the queue's front that are computed but not given back
    std::list<Sum> sums;
    std::vector<Kept> kept;
};

static std::vector<Products> products;  // by warpgroup

static bool is_integer(int atom) { return atom == KA_MMA_S8 || atom == KA_MMA_U8; }
static int operand_bytes(int atom) {
    return atom == KA_MMA_TF32 ? 4 : atom == KA_MMA_BF16 || atom == KA_MMA_F16 ? 2 : 1;
}

// Value v of a thread's accumulator: row and column.
static inline void sum_place(int thread, int v, int *row, int *column) {
    *row = thread / WARP * 16 + thread % WARP / 4 + 8 * (v >> 1 & 1);
    *column = 8 * (v >> 2) + 2 * (thread % 4) + (v & 1);
}

// Arithmetic --------------------------------------------------------------------------------------------------------------

static double left[PRODUCT_ROWS][PRODUCT_K_BYTES], right[PRODUCT_K_BYTES][LARGEST_N], total[PRODUCT_ROWS][LARGEST_N];

static void take_a(const Product &p, ka_u32 base) {
    int size = operand_bytes(p.atom), packed = 4 / size;
    if (!p.from_registers)
        return each_operand(p.a_tile, base, [&](int m, int k, ka_u32 bits) { left[m][k] = operand(p.atom, bits); });
    for (int t = 0; t < GROUP; t++) {
        ka_u32 held[A_REGISTERS];
        memcpy(held, &p.a_values[(size_t)t * sizeof held], sizeof held);
        for (int v = 0; v < A_REGISTERS * packed; v++) {
            int r = v / packed, row = t / WARP * 16 + t % WARP / 4 + 8 * (r & 1);
            left[row][packed * (t % 4) + v % packed + 4 * packed * (r >> 1)] = operand(p.atom, element_bits(held, v, 8 * size));
        }
    }
}

__attribute__((optimize("O3"))) static void add_products(int n, int k) {
    for (int i = 0; i < PRODUCT_ROWS; i++)
        for (int l = 0; l < k; l++) {
            double a = left[i][l];
            for (int j = 0; j < n; j++) total[i][j] += a * right[l][j];
        }
}

template <class D> static D rounded(double x) { return (D)x; }
template <> int rounded<int>(double x) { return (int)(ka_i64)x; }

static void begin_sum(int n) {
    for (int i = 0; i < PRODUCT_ROWS; i++) std::fill(total[i], total[i] + n, 0.0);
}

template <class D> static void exchange(const Product &p, bool back) {
    D *values = reinterpret_cast<D *>(p.sum->values.data());
    for (int t = 0; t < GROUP; t++)
        for (int v = 0, row, column; v < p.n / 2; v++) {
            sum_place(t, v, &row, &column);
            D &value = values[t * (p.n / 2) + v];
            if (back) value = rounded<D>(total[row][column]);
            else total[row][column] = (double)value;
        }
}

// Products are exact; a sum over k is rounded once to the accumulator's type.
static void compute(const Product &p, ka_u32 base) {
    take_a(p, base);
    each_operand(p.b_tile, base, [&](int n, int k, ka_u32 bits) { right[k][n] = operand(p.atom, bits); });
    if (p.begins) begin_sum(p.n);
    else if (is_integer(p.atom)) exchange<int>(p, false);
    else exchange<float>(p, false);
    add_products(p.n, PRODUCT_K_BYTES / operand_bytes(p.atom));
    if (is_integer(p.atom)) exchange<int>(p, true);
    else exchange<float>(p, true);
}

static void compute_until(Products &ps, int group, size_t count) {
    ka_u32 base = machine.cluster->threads[first_thread(group)].shared_base;
    for (; ps.done < count; ps.done++) compute(ps.queue[ps.done], base);
}

static void compute_some(Products &ps, int group) {
    if (machine.completion == Completion::early) compute_until(ps, group, ps.queue.size());
    else if (machine.completion == Completion::random)
        compute_until(ps, group, ps.done + (size_t)machine.random.below((int)(ps.queue.size() - ps.done) + 1));
}

// Registers ---------------------------------------------------------------------------------------------------------------

static void report_registers(const char *kind, const char *detail, int thread, int line, int other_line) {
    Fact f = fact(kind, detail, line);
    name_thread(f, thread);
    f.other_line = other_line;
    machine.report.add(f);
}

static Sum *sum_of(Products &ps, const Registers &d) {
    for (Sum &s : ps.sums)
        if (s.registers.same(d)) return &s;
    return nullptr;
}

static Kept *kept_of(Products &ps, const Registers &r) {
    for (Kept &k : ps.kept)
        if (k.registers.same(r)) return &k;
    return nullptr;
}

static void keep(Products &ps, const Registers &r, std::vector<ka_u8> content) {
    if (Kept *k = kept_of(ps, r)) k->content = std::move(content);
    else ps.kept.push_back({r, std::move(content)});
}

static bool is_settled(const Products &ps, const ka_u8 *at) {
    auto next = ps.settled.upper_bound(at);
    return next != ps.settled.begin() && at < std::prev(next)->first + std::prev(next)->second;
}

// Registers that normal code has touched since need a fence before a product takes them.
static void check_fence(Products &ps, const Registers &r, int first, int line) {
    const Kept *k = kept_of(ps, r);
    int changed = k ? r.differs(k->content) : ps.fenced ? -1 : 0;
    for (int t = 0; t < GROUP && changed < 0; t++)
        if (is_settled(ps, r.at[t])) changed = t;
    if (changed >= 0) report_registers("missing-wgmma-fence", "", first + changed, line, 0);
    if (!k) keep(ps, r, r.content());
}

static void mark_in_flight(const Registers &r, int line) {
    ka_u32 mark = IN_FLIGHT << 16 | (ka_u32)(line & 0xffff);
    for (int t = 0; t < GROUP; t++)
        for (int i = 0; i < r.bytes; i += 4) memcpy(r.at[t] + i, &mark, 4);
}

// The first thread that touched its marked accumulator, or -1.
static int touched(const Sum &s) {
    ka_u32 mark = IN_FLIGHT << 16 | (ka_u32)(s.line & 0xffff);
    for (int t = 0; t < GROUP; t++)
        for (int i = 0; i < s.registers.bytes; i += 4)
            if (memcmp(s.registers.at[t] + i, &mark, 4)) return t;
    return -1;
}

static Sum *take_sum(Products &ps, const Registers &d, bool begins, int first, int line) {
    if (Sum *s = sum_of(ps, d)) return s;
    for (const Sum &s : ps.sums)
        if (s.registers.overlaps(d)) report_registers("register-in-flight", "overlap", first, line, s.line);
    int own = machine.current;
    for (int t = 0; t < GROUP && !begins; t++) {
        machine.current = first + t;
        check_registers(d.at[t], d.bytes / 4, 4, line);
    }
    machine.current = own;
    check_fence(ps, d, first, line);
    ps.sums.push_back({d, d.content(), 0, line});
    mark_in_flight(d, line);
    return &ps.sums.back();
}

static void give_back(Products &ps, Sum *s, int first, int line) {
    int thread = touched(*s);
    if (thread >= 0) report_registers("register-in-flight", "write", first + thread, line, s->line);
    const Registers &r = s->registers;
    for (int t = 0; t < GROUP; t++) memcpy(r.at[t], &s->values[(size_t)t * r.bytes], r.bytes);
    keep(ps, r, std::move(s->values));
    for (auto i = ps.sums.begin(); i != ps.sums.end(); ++i)
        if (&*i == s) return (void)ps.sums.erase(i);
}

// Calls -----------------------------------------------------------------------------------------------------------------

struct ProductCall : GroupCall {
    void *d;
    const ka_u32 *a;
    ka_u64 a_tile, b_tile;
};

// variant: the atom, then 4 bits: a turned, b turned, a from registers, the sum begins, then n.
static int product_variant(int atom, int turns, int n) { return atom | turns << 4 | n << 8; }

static Registers registers_of(GroupCall *const *lanes, bool a, int bytes) {
    Registers r;
    r.bytes = bytes;
    for (int i = 0; i < GROUP; i++) {
        const ProductCall *call = static_cast<ProductCall *>(lanes[i]);
        r.at[i] = static_cast<ka_u8 *>(a ? (void *)call->a : call->d);
    }
    return r;
}

static bool same_tiles(GroupCall *const *lanes, int first) {
    const ProductCall *one = static_cast<ProductCall *>(lanes[0]);
    for (int i = 1; i < GROUP; i++) {
        const ProductCall *other = static_cast<ProductCall *>(lanes[i]);
        if (other->a_tile == one->a_tile && other->b_tile == one->b_tile) continue;
        report_registers("divergence", "descriptor", first + i, one->line, one->line);
        return false;
    }
    return true;
}

static bool issue_product(GroupCall *const *lanes, int group) {
    Products &ps = products[group];
    const ProductCall *call = static_cast<ProductCall *>(lanes[0]);
    int first = first_thread(group), line = call->line, turns = call->variant >> 4 & 15;
    machine.current = first;
    if (!same_tiles(lanes, first)) return true;
    if (ps.agent < 0) ps.agent = new_agent("wgmma");
    products_issued = true;
    bool from_registers = (turns & 4) != 0, begins = (turns & 8) != 0;
    Product p = {call->variant & 15, call->variant >> 8, line, ps.committed, from_registers, begins, {}, {}, {}, {}, nullptr};
    int size = operand_bytes(p.atom);
    p.a_tile = {decode(call->a_tile), (turns & 1) != 0, PRODUCT_ROWS, size};
    p.b_tile = {decode(call->b_tile), (turns & 2) != 0, p.n, size};
    ka_u32 clock = ps.committed + 1;
    if (!p.from_registers && !note_tile_read(p.a_tile, "a", first, ps.agent, clock, line)) return true;
    if (!note_tile_read(p.b_tile, "b", first, ps.agent, clock, line)) return true;
    if (p.from_registers) {
        p.a = registers_of(lanes, true, A_REGISTERS * 4);
        for (int t = 0; t < GROUP; t++) check_in_flight(p.a.at[t], p.a.bytes, line);
        check_fence(ps, p.a, first, line);
        p.a_values = p.a.content();
    }
    p.sum = take_sum(ps, registers_of(lanes, false, p.n * 2), begins, first, line);
    p.sum->pending++;
    ps.queue.push_back(std::move(p));
    compute_some(ps, group);
    return true;
}

static void retire_first(Products &ps, int group, int line) {
    Product &p = ps.queue.front();
    compute_until(ps, group, std::max<size_t>(ps.done, 1));
    int first = first_thread(group), changed = p.from_registers ? p.a.differs(p.a_values) : -1;
    if (changed >= 0) report_registers("register-in-flight", "a", first + changed, line, p.line);
    if (--p.sum->pending == 0) give_back(ps, p.sum, first, line);
    ps.queue.pop_front();
    ps.done--;
}

static bool wait_products(GroupCall *const *lanes, int group) {
    Products &ps = products[group];
    ka_u32 pending = (ka_u32)lanes[0]->variant, until = ps.committed > pending ? ps.committed - pending : 0;
    while (!ps.queue.empty() && ps.queue.front().group < until) retire_first(ps, group, lanes[0]->line);
    ps.retired = std::max(ps.retired, until);
    if (ps.agent < 0) return true;
    Knowledge news;
    raise_to(news.seen, ps.agent, ps.retired);
    Known done = std::make_shared<const Knowledge>(std::move(news));
    int first = first_thread(group);
    for (int i = first; i < first + GROUP; i++) {
        Thread &t = machine.cluster->threads[i];
        t.known = learned(t.known, done);
    }
    return true;
}

static bool commit_products(GroupCall *const *, int group) {
    products[group].committed++;
    compute_some(products[group], group);
    return true;
}

static bool fence_products(GroupCall *const *, int group) {
    Products &ps = products[group];
    ps.fenced = true;
    ps.settled.clear();
    for (Kept &k : ps.kept)
        if (!sum_of(ps, k.registers)) k.content = k.registers.content();
    return true;
}

static void product_call(GroupCall *call, const char *name, int variant, int line, bool (*perform)(GroupCall *const *, int)) {
    call->name = name;
    call->line = line;
    call->variant = variant;
    call->perform_group = perform;
    land_some_boxes();
    group_call(call);
}

extern "C" void ka_rt_wgmma_fence(int line) {
    GroupCall call;
    product_call(&call, "ka_wgmma_fence", 0, line, fence_products);
}

// Both in front of products and behind their wait: no fence can cover what comes after it.
extern "C" void ka_rt_wgmma_settle(const void *d, int bytes) {
    products[group_of(machine.thread())].settled[static_cast<const ka_u8 *>(d)] = bytes;
}

extern "C" void ka_rt_wgmma_commit(int line) {
    GroupCall call;
    product_call(&call, "ka_wgmma_commit", 0, line, commit_products);
}

extern "C" void ka_rt_wgmma_wait(int pending, int line) {
    GroupCall call;
    product_call(&call, "ka_wgmma_wait", pending, line, wait_products);
}

extern "C" void ka_rt_wgmma(int atom, int n, int turns, void *d, const ka_u32 *a, ka_u64 a_tile, ka_u64 b_tile, int line) {
    ProductCall call;
    call.d = d;
    call.a = a;
    call.a_tile = a_tile;
    call.b_tile = b_tile;
    product_call(&call, "ka_wgmma", product_variant(atom, turns, n), line, issue_product);
}

static void check_products_done() {
    for (size_t group = 0; group < products.size(); group++)
        if (!products[group].queue.empty()) {
            int first = first_thread((int)group);
            report_exit("wgmma", machine.cluster->threads[first].rank, first, products[group].queue.front().line);
        }
}

#endif
