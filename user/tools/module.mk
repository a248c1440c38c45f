# SPDX-License-Identifier: GPL-2.0 OR MIT
# codewp, codewp-stat, codewp-top, codewp-doctor.

TOOLS_OBJ := $(BUILD)/obj/user/tools
TOOLS_BPF := $(TOOLS_OBJ)/probes.o $(TOOLS_OBJ)/table.o $(TOOLS_OBJ)/tool.o
TOOLS_LIBS := -lbpf -lelf -lz

# The skeleton is made before the only file that includes it.
$(TOOLS_OBJ)/probes.o: $(BUILD)/obj/bpf/stat.skel.h
CFLAGS_probes := -I$(BUILD)/obj/bpf

$(BUILD)/bin/codewp: $(TOOLS_OBJ)/codewp.o $(TOOLS_OBJ)/tool.o
	$(call msg,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -o $@ $^

$(BUILD)/bin/codewp-stat $(BUILD)/bin/codewp-top: \
$(BUILD)/bin/codewp-%: $(TOOLS_OBJ)/%.o $(TOOLS_BPF)
	$(call msg,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -o $@ $^ $(TOOLS_LIBS)

$(BUILD)/bin/codewp-doctor: $(TOOLS_OBJ)/doctor.o $(TOOLS_BPF) \
		$(BUILD)/lib/libcodewp.a
	$(call msg,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -o $@ $^ $(TOOLS_LIBS) -pthread

PROGS += $(addprefix $(BUILD)/bin/,codewp codewp-stat codewp-top codewp-doctor)
