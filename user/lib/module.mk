# SPDX-License-Identifier: GPL-2.0 OR MIT
# libcodewp: archive, shared object, pkg-config file, installation.

LIBCODEWP_SRC := $(addprefix user/lib/,lib.c lock.c track.c state.c ring.c \
		 sigcommon.c soft.c uffd.c mprotect.c kmod.c upcall.c upcall.S \
		 strerror.c anon.c)
LIBCODEWP_OBJ := $(addprefix $(BUILD)/obj/,$(addsuffix .o,$(basename \
		 $(filter-out user/lib/upcall.S,$(LIBCODEWP_SRC))))) \
		 $(BUILD)/obj/user/lib/upcall_entry.o

LIBCODEWP	:= $(BUILD)/lib/libcodewp.a
LIBCODEWP_SO	:= $(BUILD)/lib/libcodewp.so.0

LIBS += $(LIBCODEWP) $(LIBCODEWP_SO) $(BUILD)/lib/libcodewp.so \
	$(BUILD)/lib/codewp.pc

# The archive goes into static PIEs, so both are made of the same objects. The
# thread's list of registrations is read in signal handlers: no lazy TLS.
$(LIBCODEWP_OBJ): ALL_CFLAGS += -fPIC -fvisibility=hidden \
				-ftls-model=initial-exec -pthread

# upcall.c and upcall.S would both be upcall.o
$(BUILD)/obj/user/lib/upcall_entry.o: user/lib/upcall.S
	$(call msg,AS,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $<

$(LIBCODEWP): $(LIBCODEWP_OBJ)
	$(call msg,AR,$@)
	$(Q)mkdir -p $(@D)
	$(Q)rm -f $@
	$(Q)$(AR) rcs $@ $^

$(LIBCODEWP_SO): $(LIBCODEWP_OBJ) user/lib/libcodewp.map
	$(call msg,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -shared -pthread -Wl,-soname,libcodewp.so.0 \
		-Wl,--version-script=user/lib/libcodewp.map \
		-Wl,-z,defs -Wl,-z,relro,-z,now $(LDFLAGS) \
		-o $@ $(LIBCODEWP_OBJ)

$(BUILD)/lib/libcodewp.so: $(LIBCODEWP_SO)
	$(Q)ln -sf $(notdir $<) $@

$(BUILD)/lib/codewp.pc: user/lib/codewp.pc.in user/lib/module.mk
	$(Q)mkdir -p $(@D)
	$(Q)sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' $< >$@

.PHONY: install-lib uninstall-lib
install: install-lib
uninstall: uninstall-lib

# The prefix of an installation is in the pkg-config file: made anew here.
install-lib: $(LIBCODEWP) $(LIBCODEWP_SO)
	$(INSTALL) -d $(DESTDIR)$(PREFIX)/lib/pkgconfig \
		$(DESTDIR)$(PREFIX)/include/linux \
		$(DESTDIR)$(PREFIX)/share/man/man3
	$(INSTALL) -m 644 $(LIBCODEWP) $(DESTDIR)$(PREFIX)/lib/
	$(INSTALL) -m 755 $(LIBCODEWP_SO) $(DESTDIR)$(PREFIX)/lib/libcodewp.so.$(VERSION)
	ln -sf libcodewp.so.$(VERSION) $(DESTDIR)$(PREFIX)/lib/libcodewp.so.0
	ln -sf libcodewp.so.0 $(DESTDIR)$(PREFIX)/lib/libcodewp.so
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' \
		user/lib/codewp.pc.in >$(DESTDIR)$(PREFIX)/lib/pkgconfig/codewp.pc
	$(INSTALL) -m 644 include/codewp.h $(DESTDIR)$(PREFIX)/include/
	$(INSTALL) -m 644 include/uapi/linux/codewp.h $(DESTDIR)$(PREFIX)/include/linux/
	$(INSTALL) -m 644 $(wildcard Documentation/man/*.3) $(DESTDIR)$(PREFIX)/share/man/man3/

uninstall-lib:
	rm -f $(DESTDIR)$(PREFIX)/lib/libcodewp.a $(DESTDIR)$(PREFIX)/lib/libcodewp.so* \
		$(DESTDIR)$(PREFIX)/lib/pkgconfig/codewp.pc \
		$(DESTDIR)$(PREFIX)/include/codewp.h \
		$(DESTDIR)$(PREFIX)/include/linux/codewp.h \
		$(addprefix $(DESTDIR)$(PREFIX)/share/man/man3/,\
			$(notdir $(wildcard Documentation/man/*.3)))
