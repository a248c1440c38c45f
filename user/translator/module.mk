# SPDX-License-Identifier: GPL-2.0 OR MIT
#
# codewp-run: a static program, linked where no guest wants to be.

RUN	:= $(BUILD)/bin/codewp-run
PROGS	+= $(RUN)

# RUNTIME_BASE of translator.h
RUN_BASE := 0x6a0000000000
RUN_DIR	:= $(BUILD)/obj/user/translator
RUN_OBJS := $(patsubst %,$(BUILD)/obj/%.o,$(basename \
		$(wildcard user/translator/*.c user/translator/*.S)))
RUN_LIBS := $(BUILD)/lib/libcodewp.a $(BUILD)/lib/libcodewp-codemap.a \
	    $(BUILD)/lib/libzydis.a

# Code that runs in an upcall has the guest's vector registers and %fs.
# Small structures are cleared and copied without the string instructions, whose
# start-up costs more than a block's whole header.
$(RUN_OBJS): CFLAGS += -fPIE -mgeneral-regs-only -fno-stack-protector \
	-mmemset-strategy=unrolled_loop:256:noalign,libcall:-1:noalign \
	-mmemcpy-strategy=unrolled_loop:256:noalign,libcall:-1:noalign \
	-DZYDIS_STATIC_BUILD -DZYCORE_STATIC_BUILD -Iuser/translator -I$(RUN_DIR)

# On the way of every block: 5 % of a cold start.
$(patsubst %,$(RUN_DIR)/%.o,block cache decode dispatch emit hot mem mem_map scan smc stylized \
		translate): \
	CFLAGS += -O3

$(RUN_DIR)/string.o: CFLAGS += -fno-tree-loop-distribute-patterns -fno-builtin

$(RUN_DIR)/syscall_table.o: $(RUN_DIR)/syscall_names.h

# Numbers and names from the kernel's own header.
$(RUN_DIR)/syscall_names.h: user/translator/module.mk
	$(call msg,GEN,$@)
	$(Q)mkdir -p $(@D)
	$(Q)printf '#include <asm/unistd_64.h>\n' | $(CC) -E -dM - | \
		sed -n 's/^#define __NR_\([a-z0-9_]*\) \([0-9][0-9]*\)$$/[\2] = "\1",/p' | \
		sort > $@

$(BUILD)/lib/libzydis.a: user/translator/get-zydis user/translator/zydis_libc.h
	$(call msg,GET,$@)
	$(Q)mkdir -p $(@D)
	$(Q)CC="$(CC)" user/translator/get-zydis $(BUILD)/deps/zydis $@

crt = $(shell $(CC) -print-file-name=$(1))

$(RUN): $(RUN_OBJS) $(RUN_LIBS)
	$(call msg,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -static -no-pie -nostartfiles -Wl,--no-relax -Wl,-z,noexecstack \
		-Wl,-z,max-page-size=4096 -Wl,-Ttext-segment=$(RUN_BASE) \
		-Wl,--wrap=mmap \
		-o $@.new $(call crt,crt1.o) $(call crt,crti.o) $(RUN_OBJS) \
		$(RUN_LIBS) $(call crt,crtn.o)
	$(Q)mv $@.new $@
