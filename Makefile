# SPDX-License-Identifier: GPL-2.0
#
# codewp: `make demo` and `make test` do everything, set-up included.
#
# Each directory says in its module.mk what it builds: it appends to LIBS,
# PROGS, TESTS_HOST (test programs that run here), TESTS_VM (those that run in the VM
# with the module loaded), TESTS_KVM (in VMs with KVM, too) and BENCHES. All output is
# below build/.

BUILD	:= build
CC	?= gcc
CLANG	?= clang
Q	:= $(if $(V),,@)
msg	= $(if $(V),,@printf '  %-7s %s\n' "$(1)" "$(2)")

CFLAGS	?= -O2 -g
WARN	:= -Wall -Wextra -Wno-unused-parameter -Wmissing-prototypes \
	   -Wstrict-prototypes -Wshadow -Wvla
ALL_CFLAGS = -std=gnu11 -D_GNU_SOURCE -Iinclude -Iinclude/uapi -Itests/lib \
	   $(WARN) $(CFLAGS) -MMD -MP

LIBS	:=
PROGS	:=
TESTS_HOST :=
TESTS_VM :=
TESTS_KVM :=
BENCHES	:=

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SECONDARY:

include $(sort $(wildcard user/*/module.mk bpf/module.mk kmod/module.mk \
		tests/*/module.mk Documentation/module.mk))

.PHONY: all libs progs test-programs clean
all: libs progs
libs: $(LIBS)
progs: $(PROGS)
test-programs: $(TESTS_HOST) $(TESTS_VM) $(TESTS_KVM)

$(BUILD)/obj/%.o: %.c
	$(call msg,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(CFLAGS_$(*F)) -c -o $@ $<

$(BUILD)/obj/%.o: %.S
	$(call msg,AS,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $<

# ---- installation ----
#
# make; make install [PREFIX=DIR] [DESTDIR=DIR] installs the tools, the library and
# their pages, and make uninstall with the same two takes them away. The module is
# the kernel's: make install-kmod [KVER=RELEASE] for one kernel, or make install-dkms
# for its source, from which dkms builds it for every kernel that comes.

VERSION	:= 0.1.0
PREFIX	?= /usr/local
INSTALL	?= install

.PHONY: install uninstall install-kmod install-dkms uninstall-kmod uninstall-dkms
install uninstall:

# ---- targets that do everything ----
#
# What set-up installs decides how things are built (pkg-config, kernel headers),
# so each of these goes through set-up first and reads the makefiles again after.

.PHONY: setup built demo test test-kvm test-ept run-tests vm bench bench-programs bench-smc
MAKE_ALL = $(MAKE) --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))

setup:
	$(Q)tests/setup

built: setup
	$(Q)$(MAKE_ALL) all kmod

# make test T=PROGRAM[:TEST] runs a part (parts of the names are enough).
test: built
	$(Q)$(MAKE_ALL) test-programs
	$(Q)$(MAKE) --no-print-directory run-tests

run-tests:
	$(Q)tests/run $(if $(T),-T '$(T)') --host $(TESTS_HOST) --vm $(TESTS_VM) --kvm $(TESTS_KVM) \
		--skip "ept, ept-nopml: Intel's tables: their emulator is slow; make test-ept runs them"

# AMD's tables alone, nested and shadow paging.
test-kvm: built
	$(Q)$(MAKE_ALL) test-programs
	$(Q)tests/run $(if $(T),-T '$(T)') --kvm $(TESTS_KVM)

# Intel's tables, with PML and without. The emulator that has them takes minutes to boot.
test-ept:
	$(Q)tests/setup ept
	$(Q)$(MAKE_ALL) all kmod
	$(Q)$(MAKE_ALL) test-programs
	$(Q)tests/run $(if $(T),-T '$(T)') --ept $(TESTS_KVM)

demo: built
	$(Q)$(MAKE_ALL) $(DEMO)
	$(Q)tests/vm/run -t 1200 -f tests/demo -- tests/demo

vm: built
	$(Q)$(MAKE_ALL) test-programs
	$(Q)tests/vm/run --shell --insmod zram --insmod brd

bench: built
	$(Q)$(MAKE_ALL) $(BENCHES)
	$(Q)tests/bench/run $(BENCHES)

# Real programs beside other translators; takes a while, and is not part of bench.
bench-programs: built
	$(Q)$(MAKE_ALL) test-programs $(BUILD)/bench/timed
	$(Q)tests/bench/programs

# The same for code that changes.
bench-smc: built
	$(Q)$(MAKE_ALL) build/bench/smc build/bench/closures
	$(Q)tests/bench/smc-table

clean:
	$(Q)rm -rf $(BUILD)

-include $(shell find $(BUILD)/obj -type f -name '*.d' 2>/dev/null)
