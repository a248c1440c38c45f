# SPDX-License-Identifier: GPL-2.0 OR MIT
#
# gdb commands for a program under codewp-run: gdb -p PID, then
#
#   source codewp-gdb.py
#   codewp-symbols         tell gdb the files that the guest has mapped
#   codewp-where [HOSTPC]  the guest's program counter, symbol, block and registers
#                          of the selected thread
#
# codewp-where calls codewp_where() of the runtime, which is made for it: the
# process must be alive, not a core file.

import re
import struct

import gdb

# The order of struct codewp_regs.
NAMES = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"] + \
        ["r%d" % i for i in range(8, 16)]


def u64(expr):
    return int(gdb.parse_and_eval(expr)) & 0xffffffffffffffff


def read(addr, n):
    mem = gdb.selected_inferior().read_memory(addr, 8 * n)
    return struct.unpack("<%dQ" % n, bytes(mem))


def symbol(pc):
    text = gdb.execute("info symbol 0x%x" % pc, to_string=True).strip()
    return "" if text.startswith("No symbol") else " " + text


class Where(gdb.Command):
    """codewp-where [HOSTPC]: what the guest is doing at a host address."""

    def __init__(self):
        super().__init__("codewp-where", gdb.COMMAND_STATUS)

    def invoke(self, arg, from_tty):
        host = u64(arg) if arg else u64("$pc")
        at = u64("((unsigned long (*)(unsigned long))codewp_where)(0x%x)" % host)
        pc, block, code, size, insn, insns, spilled, value = read(at, 8)
        if pc:
            regs = {name: u64("$" + name) for name in NAMES}
            if spilled < 16:
                regs[NAMES[spilled]] = value
        else:
            # In the runtime: the guest's state is in struct cpu, behind %gs.
            saved = read(u64("$gs_base") + 8, 18)
            regs = dict(zip(NAMES, saved))
            pc = saved[16]
        print("guest pc 0x%x%s" % (pc, symbol(pc)))
        if size and code <= host < code + size:
            print("block 0x%x, instruction %d of %d, host code 0x%x to 0x%x" %
                  (block, insn + 1, insns, code, code + size))
        else:
            print("not in a block: the runtime is at work for the guest")
        for i in range(0, 16, 4):
            print("  ".join("%-3s %016x" % (n, regs[n]) for n in NAMES[i:i + 4]))


class Symbols(gdb.Command):
    """codewp-symbols: load the symbols of the files that the guest has mapped."""

    def __init__(self):
        super().__init__("codewp-symbols", gdb.COMMAND_FILES)

    def invoke(self, arg, from_tty):
        pid = gdb.selected_inferior().pid
        base = {}
        own = gdb.current_progspace().filename
        with open("/proc/%d/maps" % pid) as maps:
            for line in maps:
                m = re.match(r"([0-9a-f]+)-\S+ \S+ ([0-9a-f]+) \S+ \d+\s+(/.*)$", line)
                if m and int(m.group(2), 16) == 0 and m.group(3) != own:
                    base.setdefault(m.group(3), int(m.group(1), 16))
        for path, addr in sorted(base.items()):
            try:
                with open(path, "rb") as f:
                    head = f.read(64)
            except OSError:
                continue
            if head[:5] != b"\x7fELF\x02" or len(head) < 64:
                continue
            kind = struct.unpack_from("<H", head, 16)[0]
            if kind == 2:
                addr = 0            # ET_EXEC: where it was linked
            elif kind != 3:
                continue
            try:
                gdb.execute("add-symbol-file \"%s\" -o 0x%x" % (path, addr), to_string=True)
            except gdb.error as e:
                print("%s: %s" % (path, e))
                continue
            print("0x%x %s" % (addr, path))


Where()
Symbols()
