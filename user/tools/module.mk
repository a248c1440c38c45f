# SPDX-License-Identifier: GPL-2.0 OR MIT
# codewp, codewp-stat, codewp-top, codewp-doctor, codewp-vm, codewp-guest,
# codewp-who.

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

$(TOOLS_OBJ)/who.o: $(BUILD)/obj/bpf/who.skel.h
CFLAGS_who := -I$(BUILD)/obj/bpf

$(BUILD)/bin/codewp-who: $(TOOLS_OBJ)/who.o $(TOOLS_OBJ)/probes.o $(TOOLS_OBJ)/tool.o
	$(call msg,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -o $@ $^ $(TOOLS_LIBS)

$(BUILD)/bin/codewp-doctor: $(TOOLS_OBJ)/doctor.o $(TOOLS_BPF) \
		$(BUILD)/lib/libcodewp.a
	$(call msg,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -o $@ $^ $(TOOLS_LIBS) -pthread

# Named as in user/vmm/module.mk, which is read after this.
$(BUILD)/bin/codewp-vm: $(TOOLS_OBJ)/vm.o $(TOOLS_OBJ)/tool.o \
		$(addprefix $(BUILD)/lib/,libvmm.a libcodewp.a libcodewp-codemap.a libzydis.a)
	$(call msg,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -o $@ $^ -pthread

$(BUILD)/bin/codewp-guest: $(TOOLS_OBJ)/guest.o $(TOOLS_OBJ)/tool.o $(BUILD)/lib/libcodewp.a
	$(call msg,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -o $@ $^ -pthread

PROGS += $(addprefix $(BUILD)/bin/,codewp codewp-stat codewp-top codewp-doctor codewp-vm \
			codewp-guest codewp-who)

# codewp is what people call; the others are found from there.
TOOLS_LIBEXEC := $(addprefix $(BUILD)/bin/,codewp-run codewp-stat codewp-top codewp-doctor \
		   codewp-vm codewp-guest codewp-who)

.PHONY: install-tools uninstall-tools
install: install-tools
uninstall: uninstall-tools

install-tools: $(BUILD)/bin/codewp $(TOOLS_LIBEXEC)
	$(INSTALL) -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/libexec/codewp \
		$(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/man/man8
	$(INSTALL) -m 755 $(BUILD)/bin/codewp $(DESTDIR)$(PREFIX)/bin/
	$(INSTALL) -m 755 $(TOOLS_LIBEXEC) $(DESTDIR)$(PREFIX)/libexec/codewp/
	$(INSTALL) -m 644 $(wildcard Documentation/man/codewp*.1) \
		$(DESTDIR)$(PREFIX)/share/man/man1/
	$(INSTALL) -m 644 $(wildcard Documentation/man/codewp-*.8) \
		$(DESTDIR)$(PREFIX)/share/man/man8/
	$(INSTALL) -d $(DESTDIR)$(PREFIX)/share/codewp
	$(INSTALL) -m 644 user/translator/codewp-gdb.py $(DESTDIR)$(PREFIX)/share/codewp/

uninstall-tools:
	rm -rf $(DESTDIR)$(PREFIX)/libexec/codewp $(DESTDIR)$(PREFIX)/share/codewp
	rm -f $(DESTDIR)$(PREFIX)/bin/codewp \
		$(addprefix $(DESTDIR)$(PREFIX)/share/man/man1/,\
			$(notdir $(wildcard Documentation/man/codewp*.1))) \
		$(addprefix $(DESTDIR)$(PREFIX)/share/man/man8/,\
			$(notdir $(wildcard Documentation/man/codewp-*.8)))
