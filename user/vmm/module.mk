# SPDX-License-Identifier: GPL-2.0 OR MIT
#
# The small VMM. A program that uses it links $(VMM_LIBS).

# Of libcodewp-watch only what a store writes.
VMM_OBJ	:= $(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard user/vmm/*.c) user/watch/insn.c)
VMM_LIB	:= $(BUILD)/lib/libvmm.a
VMM_LIBS := $(VMM_LIB) $(BUILD)/lib/libcodewp.a $(BUILD)/lib/libcodewp-codemap.a \
	    $(BUILD)/lib/libzydis.a
LIBS	+= $(VMM_LIB)

$(filter-out %/insn.o,$(VMM_OBJ)): CFLAGS += -pthread -DZYDIS_STATIC_BUILD -DZYCORE_STATIC_BUILD

$(VMM_LIB): $(VMM_OBJ)
	$(call msg,AR,$@)
	$(Q)mkdir -p $(@D)
	$(Q)rm -f $@ && $(AR) rcs $@ $^
