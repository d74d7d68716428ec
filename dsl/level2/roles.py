"""Rules about kernels with roles as a whole: warps, registers, the same tiles, and what barriers with phases count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import combinations, pairwise
from math import prod

from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.dtypes import bits
from kernelagent.dsl.index import Index
from kernelagent.dsl.lanes import WARP
from kernelagent.dsl.level2.flow import check_flow
from kernelagent.dsl.level2.hopper import is_hopper
from kernelagent.dsl.level2.normal import only_tiles
from kernelagent.dsl.level2.rules import Broken
from kernelagent.dsl.level2.traverse import grids, parts
from kernelagent.dsl.targets.cuda.archs import arch
from kernelagent.dsl.tensor_map import ADDRESS_UNIT

BARRIER_BYTES = 8
MOST_ARRIVALS = (1 << 20) - 1
FEWEST_REGISTERS, MOST_REGISTERS = 24, 256
"""What `setmaxnreg` takes, in steps of 8 (PTX ISA 9.0, "setmaxnreg")."""

Where = str | ir.Origin
"""The name of a buffer or barrier, `role` and its name, or a statement's place."""
Rules = Iterator[tuple[Where, Broken]]


def check_barrier(target: str, barrier: dev.MBarrier) -> None:
    """One barrier by itself. Raises Broken."""
    if not is_hopper(target):
        raise Broken("hopper-only", f"{target} has no barriers with phases", "write `schedule(sm_90a, ...)`")
    if barrier.stages < 1 or not 1 <= barrier.arrivals <= MOST_ARRIVALS:
        message = f"`{barrier.name}`: {barrier.arrivals} arrivals, {barrier.stages} stages"
        raise Broken("mbarrier", message, f"stages are 1 or more, arrivals 1 to {MOST_ARRIVALS}")
    if barrier.offset % BARRIER_BYTES or barrier.offset < 0:
        close = -(-barrier.offset // BARRIER_BYTES) * BARRIER_BYTES
        message = f"`{barrier.name}` starts at byte {barrier.offset}, no multiple of {BARRIER_BYTES}"
        raise Broken("mbarrier", message, f"write offset={max(close, 0)}", "offset", offset=barrier.offset)


def broken_rules(kernel: dev.DeviceKernel) -> Rules:
    """Every broken rule of a kernel whose statements are right by themselves."""
    yield from _barrier_bytes(kernel)
    if not kernel.roles:
        yield from _needs_roles(kernel)
        return
    yield from _warps(kernel)
    yield from _registers(kernel)
    yield from _tiles(kernel)
    yield from _numbers(kernel)
    yield from _cluster_barriers(kernel)
    yield from _initialised(kernel)
    yield from _arrivals(kernel)
    yield from _guarded(kernel)
    for part in parts(kernel):
        for block in part.blocks:
            yield from _expected(kernel, block)
            yield from _turns(block)
    yield from _unexpected(kernel)
    for role in kernel.roles:
        yield from check_flow(kernel, role)


def _needs_roles(kernel: dev.DeviceKernel) -> Rules:
    hint = f'put the grid into `with role("all", warps=(0, {kernel.threads // WARP})):`, `barrier_init` in front of it'
    if kernel.barriers:
        name = kernel.barriers[0].name
        yield name, Broken("barrier-init", f"`{name}` needs threads that initialise it, but there are no roles", hint)
    for statement in dev.statements(kernel):
        if isinstance(statement, (dev.StoreBulk, dev.WgmmaFence)):
            yield statement.origin, Broken("roles", "bulk stores and asynchronous products stand in roles", hint)
            return


# Shared memory -----------------------------------------------------------------------------------------


def _barrier_bytes(kernel: dev.DeviceKernel) -> Rules:
    """Barriers share bytes with nothing."""
    taken = [(b.offset, b.offset + dev.stage_bytes(b) * b.stages, b.name) for b in kernel.buffers]
    for barrier in kernel.barriers:
        lo, hi = barrier.offset, barrier.offset + BARRIER_BYTES * barrier.stages
        for first, end, name in taken:
            if lo < end and first < hi:
                message = f"`{barrier.name}` (bytes {lo} to {hi}) lies in `{name}` (bytes {first} to {end})"
                free = -(-max(e for _, e, _ in taken) // BARRIER_BYTES) * BARRIER_BYTES
                yield barrier.name, Broken("mbarrier", message, f"write offset={free}", "offset")
                break
        taken.append((lo, hi, barrier.name))


# Warps, registers, tiles -------------------------------------------------------------------------------


def _warps(kernel: dev.DeviceKernel) -> Rules:
    """In order, one behind the other, all of the block."""
    total, at = kernel.threads // WARP, 0
    for role in kernel.roles:
        if role.first_warp != at:
            message = f"role `{role.name}` begins with warp {role.first_warp}, but {at} warps are in front of it"
            hint = f"write warps=({at}, {at + role.warps}), roles in the order of their warps"
            yield f"role {role.name}", Broken("role-warps", message, hint, "warps")
            return
        at += role.warps
    if at != total:
        last = kernel.roles[-1]
        message = f"the roles have {at} warps, the block {total}"
        hint = f"write warps=({last.first_warp}, {total}), or threads={at * WARP}"
        yield f"role {last.name}", Broken("role-warps", message, hint, "warps", warps=at, block=total)


def _registers(kernel: dev.DeviceKernel) -> Rules:
    machine = arch(kernel.target)
    share = machine.registers_per_block // kernel.threads // 8 * 8
    used = 0
    for role in kernel.roles:
        count = role.registers
        used += role.threads * (share if count is None else count)
        if count is None:
            continue
        if count % 8 or not FEWEST_REGISTERS <= count <= MOST_REGISTERS:
            near = min(max(round(count / 8) * 8, FEWEST_REGISTERS), MOST_REGISTERS)
            message = f"{count} registers; a multiple of 8 from {FEWEST_REGISTERS} to {MOST_REGISTERS} can be asked for"
            hint = f"write registers={near}"
            yield f"role {role.name}", Broken("role-registers", message, hint, "registers", nearest=near)
        if role.first_warp % 4 or role.warps % 4:
            message = f"role `{role.name}` asks for registers, which whole warpgroups of 4 warps do"
            hint = "delete `registers=`, or give it whole warpgroups"
            yield f"role {role.name}", Broken("role-registers", message, hint, "registers")
    if used > machine.registers_per_block:
        largest = max(kernel.roles, key=lambda r: r.threads * (r.registers or share))
        others = used - largest.threads * (largest.registers or share)
        fitting = max((machine.registers_per_block - others) // largest.threads // 8 * 8, FEWEST_REGISTERS)
        message = f"the roles hold {used} registers; a multiprocessor has {machine.registers_per_block}"
        hint = f"write registers={fitting} for `{largest.name}`, or fewer for the others"
        yield f"role {largest.name}", Broken("role-registers", message, hint, "registers", used=used, nearest=fitting)


def _tiles(kernel: dev.DeviceKernel) -> Rules:
    """Roles that meet in barriers go through the same tiles."""
    first = kernel.roles[0]
    for role in kernel.roles[1:]:
        if _extent(role.grid) != _extent(first.grid):
            message = f"role `{role.name}` walks other tiles than `{first.name}`"
            hint = "write the same `tiles(...)` in every role, with the same raster"
            yield role.grid.origin, Broken("role-tiles", message, hint)


def _extent(grid: dev.Grid) -> tuple[object, ...]:
    return tuple((g.variables, g.lo, g.hi, g.step, g.raster, g.group, g.persistent) for g in grids(only_tiles(grid)))


# Barriers ----------------------------------------------------------------------------------------------


def _walked(role: dev.Role) -> Iterator[dev.Statement]:
    for grid in grids(role.grid):
        yield from dev.walk(grid.body)
    yield from dev.walk(role.after)


def _numbers(kernel: dev.DeviceKernel) -> Rules:
    """A role barrier's number counts the threads of one role; a turn's two belong to its warpgroups."""
    owner: dict[int, tuple[str, str]] = {}
    for role in kernel.roles:
        for statement in _walked(role):
            numbers, word = _own_numbers(statement)
            use = (role.name, word)
            taken = next((n for n in numbers if owner.setdefault(n, use) != use), None)
            if taken is not None:
                first, other = owner[taken]
                if other == word:
                    message = f"roles `{first}` and `{role.name}` both use {word.replace('_', ' ')} {taken}"
                else:
                    message = f"`{other}` of `{first}` and `{word}` of `{role.name}` both use barrier {taken}"
                free = next(n for n in range(1, 16) if not owner.keys() & {n + k for k in range(len(numbers))})
                hint = f"write {word}({free})"
                assert isinstance(statement, (dev.RoleBarrier, dev.Turn))  # nothing else has such numbers
                yield statement.origin, Broken("role-barrier", message, hint, "number")
                break


def _own_numbers(statement: dev.Statement) -> tuple[tuple[int, ...], str]:
    """The named barriers that a statement uses, and its word."""
    match statement:
        case dev.RoleBarrier(number):
            return (number,), "role_barrier"
        case dev.Turn(number):
            return (number, number + 1), "take_turn"
        case _:
            return (), ""


def _turns(block: tuple[dev.Statement, ...]) -> Rules:
    """Each turn that a statement list begins it ends, one after the other: else a warpgroup waits forever."""
    begun: dev.Turn | None = None
    for statement in block:
        match statement:
            case dev.Turn(number, begins):
                if begins == (begun is not None) or (begun is not None and begun.number != number):
                    message = "a turn begins inside another" if begins else "a turn ends that was not begun here"
                    yield statement.origin, Broken("turn", message, _PAIR)
                begun = statement if begins else None
            case dev.For(body=body):
                yield from _turns(body)
            case dev.If(then=then, otherwise=otherwise):
                yield from _turns(then)
                yield from _turns(otherwise)
            case _:
                pass
    if begun is not None:
        yield begun.origin, Broken("turn", "the turn is not ended on this path", _PAIR)


_PAIR = "write `take_turn(n)`, the products, `pass_turn(n)` into the same loop body or arm"


def _cluster_barriers(kernel: dev.DeviceKernel) -> Rules:
    """All threads of a cluster arrive, so each role does so as often as the others."""
    counts = {r.name: sum(isinstance(s, dev.ClusterBarrier) for s in _walked(r)) for r in kernel.roles}
    for (first, a), (second, b) in pairwise(counts.items()):
        if a != b:
            message = f"role `{first}` has {a} cluster barriers and `{second}` {b}"
            hint = "write `cluster_barrier()` in every role, or in front of them"
            yield f"role {second}", Broken("cluster", message, hint)


def _initialised(kernel: dev.DeviceKernel) -> Rules:
    """Each barrier once in front of the roles, then the fence, then a barrier of all threads."""
    seen: dict[str, int] = {b.name: 0 for b in kernel.barriers}
    shown = met = True  # what was initialised so far is visible, and all threads have come
    last = 0
    for statement in dev.walk(kernel.prologue):
        match statement:
            case dev.BarrierInit(name):
                seen[name] += 1
                shown = met = False
                last = statement.origin.span.line
            case dev.FenceInit():
                shown = True
            case dev.BlockBarrier() | dev.ClusterBarrier() if shown:
                met = kernel.cluster == 1 or isinstance(statement, dev.ClusterBarrier)
    for name, count in seen.items():
        if count != 1:
            message = f"`{name}` is initialised {count} times in front of the roles"
            yield name, Broken("barrier-init", message, f"write `barrier_init({name})` there once")
    if not met:
        wanted = "barrier()" if kernel.cluster == 1 else "cluster_barrier()"
        message = "roles begin before the initialised barriers are visible to them"
        hint = f"write `fence_init()` and then `{wanted}` behind the last `barrier_init`, line {last}"
        yield f"role {kernel.roles[0].name}", Broken("barrier-init", message, hint)


def _arrivals(kernel: dev.DeviceKernel) -> Rules:
    """A phase is completed by some of the roles that arrive: one for each `expect` of it, one a warp for `arrive`."""
    for barrier in kernel.barriers:
        counts: list[int] = []
        texts: list[str] = []
        for role in kernel.roles:
            count, text = _arriving(kernel, role, barrier.name)
            counts += [count] if count else []
            texts += [f"{count} from `{role.name}` ({text})"] if count else []
        sums = {sum(c) for n in range(1, len(counts) + 1) for c in combinations(counts, n)}
        if barrier.arrivals not in sums:
            said = " and ".join(texts) or "none"
            message = f"a phase of `{barrier.name}` takes {barrier.arrivals} arrivals, but gets {said}"
            hint = f"write arrivals={sum(counts)}" if counts else "let a role `arrive` or `expect` there, or delete it"
            if kernel.cluster > 1 and barrier.arrivals == kernel.cluster * sum(counts):
                hint += ", or arrive for every block of the cluster: `arrive(..., everywhere=True)`"
            yield barrier.name, Broken("arrivals", message, hint, "arrivals", arrivals=barrier.arrivals, got=counts)


def _arriving(kernel: dev.DeviceKernel, role: dev.Role, name: str) -> tuple[int, str]:
    count, texts = 0, []
    own = list(_walked(role))
    expects = max((n for grid in grids(role.grid) for n in _expects(grid.body, name)), default=0)
    if expects:
        count += expects
        texts.append("expect" if expects == 1 else f"expect, {expects} times")
    arrives = [s for s in own if isinstance(s, dev.Arrive) and s.barrier == name]
    if arrives:
        blocks = kernel.cluster if arrives[0].everywhere else 1
        count += role.warps * blocks
        texts.append(f"arrive, {role.warps} warps" + (f" of {blocks} blocks" if blocks > 1 else ""))
    return count, ", ".join(texts)


def _expects(block: tuple[dev.Statement, ...], name: str) -> Iterator[int]:
    """How often one block of statements, and those inside, announce bytes of the same stage."""
    yield from Counter(s.stage for s in block if isinstance(s, dev.Expect) and s.barrier == name).values()
    for statement in block:
        match statement:
            case dev.For(body=inner):
                yield from _expects(inner, name)
            case dev.If(then=then, otherwise=otherwise):
                yield from _expects(then, name)
                yield from _expects(otherwise, name)
            case _:
                pass


# Tensor maps -------------------------------------------------------------------------------------------


def _guarded(kernel: dev.DeviceKernel) -> Rules:
    """Tensor maps take arrays whose rows are dense and start at multiples of 16 bytes: dispatch has to check."""
    guards = kernel.shape_class.guards
    dense = {g.subject for g in guards if g.kind == "unit_stride"}
    aligned = {g.subject for g in guards if g.kind == "aligned" and g.value % ADDRESS_UNIT == 0}
    told: set[str] = set()
    for statement in dev.statements(kernel):
        if isinstance(statement, (dev.CopyBulk, dev.StoreBulk)) and statement.view.array not in told:
            name = statement.view.array
            told.add(name)
            if name not in dense & aligned:
                message = f"a tensor map of `{name}`, which shape class `{kernel.shape_class.name}` does not align"
                hint = f"add `unit_stride({name}), aligned({name}, {ADDRESS_UNIT})` to shape_class"
                yield statement.origin, Broken("access-alignment", message, hint)


# Bytes -------------------------------------------------------------------------------------------------


def box_bytes(kernel: dev.DeviceKernel, copy: dev.CopyBulk) -> int:
    """What a copy adds to its barrier, wherever its boxes lie."""
    return prod(copy.shape) * bits(kernel.buffer(copy.target.buffer).dtype) // 8


def _expected(kernel: dev.DeviceKernel, block: tuple[dev.Statement, ...]) -> Rules:
    """Bytes announced are those of the copies up to the next announcement for the same barrier. Copies under an `if`
    or in a loop are not counted, nor is what stands around them."""
    open_: dict[str, tuple[dev.Expect, int]] = {}

    def close(name: str) -> Rules:
        expect, found = open_.pop(name)
        if found != expect.bytes:
            message = f"{expect.bytes} bytes are announced on `{name}`, but the copies behind bring {found}"
            yield expect.origin, Broken("expect-bytes", message, f"write {found}", "bytes", copied=found)

    for statement in block:
        match statement:
            case dev.Expect(barrier=name):
                if name in open_:
                    yield from close(name)
                open_[name] = statement, 0
            case dev.CopyBulk(barrier=name, stage=stage) if name in open_:
                expect, count = open_[name]
                yield from _same_stage(expect, statement, stage)
                open_[name] = expect, count + box_bytes(kernel, statement)
            case dev.For(body=inner):
                yield from _expected(kernel, inner)
                _forget(open_, inner)
            case dev.If(then=then, otherwise=otherwise):
                yield from _expected(kernel, then)
                yield from _expected(kernel, otherwise)
                _forget(open_, (*then, *otherwise))
            case _:
                pass
    for name in list(open_):
        yield from close(name)


def _same_stage(expect: dev.Expect, copy: dev.CopyBulk, stage: Index) -> Rules:
    if stage != expect.stage:
        message = f"the copy counts on stage {stage} of `{copy.barrier}`, the bytes were announced on {expect.stage}"
        yield copy.origin, Broken("expect-bytes", message, "name the same stage in both", "barrier")


def _forget(open_: dict[str, tuple[dev.Expect, int]], inner: tuple[dev.Statement, ...]) -> None:
    for statement in dev.walk(inner):
        if isinstance(statement, (dev.CopyBulk, dev.Expect)):
            open_.pop(statement.barrier, None)


def _unexpected(kernel: dev.DeviceKernel) -> Rules:
    """Bytes that nobody announced complete no phase."""
    announced = {s.barrier for s in dev.statements(kernel) if isinstance(s, dev.Expect)}
    for statement in dev.statements(kernel):
        if isinstance(statement, dev.CopyBulk) and statement.barrier not in announced:
            message = f"the bytes of this copy are announced by no `expect` on `{statement.barrier}`"
            hint = f"write `expect({statement.barrier}[...], {box_bytes(kernel, statement)})` in front of it"
            yield statement.origin, Broken("expect-bytes", message, hint, "barrier")


__all__ = ["broken_rules", "check_barrier"]
