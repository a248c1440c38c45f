# The benchmarks: `make bench`, or tests/bench/run with one part's name.

BENCH_DIR := $(BUILD)/bench
BENCH_KVER ?= $(notdir $(patsubst %/build,%,$(lastword $(shell \
		ls -dv /lib/modules/6.1.*-amd64/build 2>/dev/null))))

BENCHES += $(BENCH_DIR)/trap $(BENCH_DIR)/million $(BENCH_DIR)/smc $(BENCH_DIR)/floor.ko \
	   $(BENCH_DIR)/kvm $(BENCH_DIR)/pagetrack.ko $(BENCH_DIR)/returns

$(BENCH_DIR)/trap: $(BUILD)/obj/tests/bench/trap.o $(BUILD)/obj/tests/bench/trap_asm.o \
		$(BUILD)/obj/tests/bench/bench.o
$(BENCH_DIR)/million: $(BUILD)/obj/tests/bench/million.o $(BUILD)/obj/tests/bench/bench.o
$(BENCH_DIR)/trap $(BENCH_DIR)/million:
	$(call msg,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -o $@ $^

# No PIE, as code near the cache has addresses of 32 bits.
$(BENCH_DIR)/returns: $(BUILD)/obj/tests/bench/returns.o $(BUILD)/obj/tests/bench/returns_asm.o
	$(call msg,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -no-pie -o $@ $^

# For tests/bench/where: its addresses are known beforehand, and nobody else's.
$(BENCH_DIR)/trap-static: $(BUILD)/obj/tests/bench/trap.o \
		$(BUILD)/obj/tests/bench/trap_asm.o $(BUILD)/obj/tests/bench/bench.o
	$(call msg,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -static -no-pie -Wl,-Ttext-segment=0x10000000 -o $@ $^

# Guests. smc: no library that a translator would have to translate first; its nested
# function wants an executable stack.
$(BENCH_DIR)/smc: tests/bench/smc.c
	$(call msg,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 -D_GNU_SOURCE $(WARN) -O2 -static -fcf-protection=none -o $@ $< \
		-Wl,-z,execstack
$(BENCH_DIR)/closures: tests/bench/closures.c
	$(call msg,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 -D_GNU_SOURCE $(WARN) -O2 -o $@ $< -lffi -lpcre2-8

# tests/bench/programs measures with it.
$(BENCH_DIR)/timed: $(BUILD)/obj/tests/bench/timed.o
	$(call msg,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -o $@ $<

$(BENCH_DIR)/kvm: $(BUILD)/obj/tests/bench/kvm.o $(BUILD)/obj/tests/bench/kvm_asm.o \
		$(BUILD)/obj/tests/bench/bench.o $(BUILD)/lib/libcodewp.a
	$(call msg,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -o $@ $^ -pthread

# Kernel modules of the benchmarks: tests/bench/NAME/{NAME.c,Kbuild}.
$(BENCH_DIR)/floor.ko $(BENCH_DIR)/pagetrack.ko: \
$(BENCH_DIR)/%.ko:
	$(call msg,KMOD,$@)
	$(Q)rm -rf $(BENCH_DIR)/$* && mkdir -p $(BENCH_DIR)/$*
	$(Q)ln -s $(CURDIR)/tests/bench/$*/$*.c $(CURDIR)/tests/bench/$*/Kbuild \
		$(BENCH_DIR)/$*/
	$(Q)env -u CFLAGS -u MAKEFLAGS -u MAKEOVERRIDES $(MAKE) --no-print-directory -s \
		-C /lib/modules/$(BENCH_KVER)/build M=$(CURDIR)/$(BENCH_DIR)/$* modules \
		>$(BENCH_DIR)/$*/log 2>&1 || { cat $(BENCH_DIR)/$*/log; exit 1; }
	$(Q)cp $(BENCH_DIR)/$*/$*.ko $@
$(BENCH_DIR)/floor.ko: tests/bench/floor/floor.c tests/bench/floor/Kbuild
$(BENCH_DIR)/pagetrack.ko: tests/bench/pagetrack/pagetrack.c tests/bench/pagetrack/Kbuild
