# SPDX-License-Identifier: GPL-2.0 OR MIT
# What the demo runs: our own self-modifying program, and copies of real ones.

DEMO := $(addprefix $(BUILD)/tests/demo.d/,patch gzip luajit jit.lua)

$(BUILD)/tests/demo.d/patch: $(BUILD)/obj/tests/demo.d/patch.o
	$(call msg,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -static -o $@ $^

$(BUILD)/tests/demo.d/%.lua: tests/demo.d/%.lua
	$(Q)mkdir -p $(@D)
	$(Q)cp $< $@

$(BUILD)/tests/demo.d/gzip $(BUILD)/tests/demo.d/luajit:
	$(Q)mkdir -p $(@D)
	$(Q)cp "$$(command -v $(@F))" $@
