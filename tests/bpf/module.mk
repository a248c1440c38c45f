# SPDX-License-Identifier: GPL-2.0 OR MIT
# Tests of the eBPF programs and the tools.

TB := $(BUILD)/tests/bpf
TB_UTIL := $(BUILD)/obj/tests/bpf/tool_util.o $(BUILD)/obj/tests/lib/test.o

# The tools beside a stand-in for codewp-run whose counts are known.
TB_FAKE := $(addprefix $(TB)/fake/,codewp-run codewp-stat codewp-top)

$(TB)/fake/codewp-run: $(BUILD)/obj/tests/bpf/fake_run.o
	$(call msg,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -o $@ $^ -pthread

$(TB)/fake/codewp-%: $(BUILD)/bin/codewp-%
	$(Q)mkdir -p $(@D)
	$(Q)cp $< $@

$(TB)/usdt_counts: | $(TB_FAKE)
$(TB)/tools_args $(TB)/kernel_counts: | $(addprefix $(BUILD)/bin/,codewp codewp-stat codewp-top codewp-doctor codewp-guest)

$(TB)/guest_watch: $(BUILD)/lib/libcodewp.a | $(BUILD)/bin/codewp-guest

$(TB)/agree: | $(BUILD)/bin/codewp-run $(BUILD)/bin/codewp-stat $(BUILD)/tests/demo.d/patch

$(TB)/%: $(BUILD)/obj/tests/bpf/%.o $(TB_UTIL)
	$(call msg,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -o $@ $^ -pthread

TESTS_HOST += $(addprefix $(TB)/,usdt_counts tools_args agree)
TESTS_VM += $(addprefix $(TB)/,usdt_counts tools_args kernel_counts agree guest_watch)
