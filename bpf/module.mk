# SPDX-License-Identifier: GPL-2.0
# The eBPF programs, as one skeleton header per NAME.bpf.c.

BPF_CLANG ?= $(firstword $(foreach c,clang clang-14 clang-19 clang-16,\
	$(if $(shell command -v $(c) 2>/dev/null),$(c))) clang)
# bpftool lives in /usr/sbin, which is not in everybody's PATH.
BPFTOOL	?= $(firstword $(foreach b,bpftool /usr/sbin/bpftool,\
	$(shell command -v $(b) 2>/dev/null)) bpftool)
BPF_SKEL := $(BUILD)/obj/bpf/stat.skel.h
# -mcpu=v3: compare-and-swap, in every kernel since 5.12. The multiarch folder
# holds <asm/types.h>, which clang does not look for when it targets bpf.
BPF_CFLAGS := -O2 -g -target bpf -mcpu=v3 -D__TARGET_ARCH_x86 \
	-Wall -Wextra -Wno-unused-parameter -Werror \
	-I/usr/include/$(shell $(CC) -print-multiarch)

$(BUILD)/obj/bpf/%.bpf.o: bpf/%.bpf.c
	$(call msg,BPF,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(BPF_CLANG) $(BPF_CFLAGS) -MMD -MP -MF $(@:.o=.d) -MT $@ -c -o $@ $<

$(BUILD)/obj/bpf/%.skel.h: $(BUILD)/obj/bpf/%.bpf.o
	$(call msg,SKEL,$@)
	$(Q)$(BPFTOOL) gen skeleton $< name $*_bpf > $@
