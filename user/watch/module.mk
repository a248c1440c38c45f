# SPDX-License-Identifier: GPL-2.0 OR MIT
#
# libcodewp-watch: one object, with the decoder in it and hidden, so that it can be
# linked beside any other Zydis.

WATCH_OBJS := $(addprefix $(BUILD)/obj/user/watch/,insn.o watch.o replay.o)
LIBCODEWP_WATCH := $(BUILD)/lib/libcodewp-watch.a
LIBS += $(LIBCODEWP_WATCH)

# The thread's slots are read in signal handlers: no lazy TLS.
$(WATCH_OBJS): ALL_CFLAGS += -fPIC -fvisibility=hidden -ftls-model=initial-exec -pthread \
	-DZYDIS_STATIC_BUILD -DZYCORE_STATIC_BUILD

$(BUILD)/obj/user/watch/insn.o $(BUILD)/obj/user/watch/watch.o \
$(BUILD)/obj/user/watch/replay.o: | $(BUILD)/lib/libzydis.a

$(BUILD)/obj/user/watch/all.o: $(WATCH_OBJS) $(BUILD)/lib/libzydis.a
	$(call msg,LD,$@)
	$(Q)$(LD) -r -o $@ $^
	$(Q)objcopy --wildcard --keep-global-symbol='codewp_*' $@

$(LIBCODEWP_WATCH): $(BUILD)/obj/user/watch/all.o
	$(call msg,AR,$@)
	$(Q)mkdir -p $(@D)
	$(Q)rm -f $@
	$(Q)$(AR) rcs $@ $^

install-lib: install-watch
.PHONY: install-watch
install-watch: $(LIBCODEWP_WATCH)
	$(INSTALL) -d $(DESTDIR)$(PREFIX)/lib $(DESTDIR)$(PREFIX)/include
	$(INSTALL) -m 644 $(LIBCODEWP_WATCH) $(DESTDIR)$(PREFIX)/lib/
	$(INSTALL) -m 644 include/codewp-watch.h $(DESTDIR)$(PREFIX)/include/

uninstall-lib: uninstall-watch
.PHONY: uninstall-watch
uninstall-watch:
	rm -f $(DESTDIR)$(PREFIX)/lib/libcodewp-watch.a \
		$(DESTDIR)$(PREFIX)/include/codewp-watch.h
