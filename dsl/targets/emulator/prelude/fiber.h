// Fibers: one stack for each thread of a block, and a switch that saves what the C calling convention keeps.
#ifndef KA_FIBER_H
#define KA_FIBER_H
#include <cstddef>
#include <cstdlib>
#include <sys/mman.h>
#include <unistd.h>

#if defined(KA_FIBER_UCONTEXT) || !(defined(__x86_64__) || defined(__aarch64__))
#include <ucontext.h>
struct Fiber {
    ucontext_t context;
};
static inline void fiber_switch(Fiber &from, Fiber &to) { swapcontext(&from.context, &to.context); }
static inline void fiber_start(Fiber &fiber, char *stack, size_t bytes, void (*entry)()) {
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = stack;
    fiber.context.uc_stack.ss_size = bytes;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, entry, 0);
}
#else
struct Fiber {
    void *top;
};
extern "C" void ka_fiber_switch(void **from, void *to);

#if defined(__x86_64__)
asm(".text\n.globl ka_fiber_switch\n.type ka_fiber_switch,@function\n"
    "ka_fiber_switch:\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
    "  ret\n");
static const int KA_FIBER_WORDS = 8;   // six registers, the entry, alignment
static const int KA_FIBER_ENTRY = 6;
#else
asm(".text\n.globl ka_fiber_switch\n.type ka_fiber_switch,@function\n"
    "ka_fiber_switch:\n"
    "  sub sp, sp, #160\n"
    "  stp x19, x20, [sp, #0]\n  stp x21, x22, [sp, #16]\n  stp x23, x24, [sp, #32]\n  stp x25, x26, [sp, #48]\n"
    "  stp x27, x28, [sp, #64]\n  stp x29, x30, [sp, #80]\n"
    "  stp d8, d9, [sp, #96]\n  stp d10, d11, [sp, #112]\n  stp d12, d13, [sp, #128]\n  stp d14, d15, [sp, #144]\n"
    "  mov x9, sp\n  str x9, [x0]\n  mov sp, x1\n"
    "  ldp x19, x20, [sp, #0]\n  ldp x21, x22, [sp, #16]\n  ldp x23, x24, [sp, #32]\n  ldp x25, x26, [sp, #48]\n"
    "  ldp x27, x28, [sp, #64]\n  ldp x29, x30, [sp, #80]\n"
    "  ldp d8, d9, [sp, #96]\n  ldp d10, d11, [sp, #112]\n  ldp d12, d13, [sp, #128]\n  ldp d14, d15, [sp, #144]\n"
    "  add sp, sp, #160\n  ret\n");
static const int KA_FIBER_WORDS = 20;
static const int KA_FIBER_ENTRY = 11;
#endif

static inline void fiber_switch(Fiber &from, Fiber &to) { ka_fiber_switch(&from.top, to.top); }
static inline void fiber_start(Fiber &fiber, char *stack, size_t bytes, void (*entry)()) {
    void **top = reinterpret_cast<void **>(stack + bytes) - KA_FIBER_WORDS;
    for (int i = 0; i < KA_FIBER_WORDS; i++) top[i] = nullptr;
    top[KA_FIBER_ENTRY] = reinterpret_cast<void *>(entry);
    fiber.top = top;
}
#endif

// Stacks with an inaccessible page below each, so that an overflow is a fault and not another thread's damage.
class Stacks {
  public:
    static const size_t BYTES = 256 * 1024;

    explicit Stacks(int count) {
        size_t page = (size_t)sysconf(_SC_PAGESIZE);
        stride_ = BYTES + page;
        void *found = mmap(nullptr, stride_ * count, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (found == MAP_FAILED) abort();
        memory_ = static_cast<char *>(found);
        for (int i = 0; i < count; i++) mprotect(memory_ + stride_ * i, page, PROT_NONE);
        memory_ += page;
    }
    // Different cache lines for the tops: equal offsets in every stack would fall into the same cache sets.
    char *of(int i) const { return memory_ + stride_ * i; }
    size_t bytes(int i) const { return BYTES - (size_t)(i % 61) * 64; }

  private:
    char *memory_;
    size_t stride_;
};

#endif
