# SPDX-License-Identifier: GPL-2.0 OR MIT
# One conformance suite, linked once per backend; its name says which.

CONF_OBJ := $(addprefix $(BUILD)/obj/tests/conformance/,conf.o trap.o maps.o \
	    events.o threads.o args.o regs.o watch.o watch_stores.o)
# As tests/lib/module.mk says, which make reads after this.
TEST_LIB := $(BUILD)/obj/tests/lib/test.o
CONF_NAME := $(BUILD)/tests/conformance-

# ASSERT_EQ(unsigned, 1) is what a test says.
$(CONF_OBJ): ALL_CFLAGS += -pthread -Wno-sign-compare

$(BUILD)/obj/tests/conformance/watch_stores.o: ALL_CFLAGS += -Itests/conformance

$(CONF_NAME)kmod $(CONF_NAME)uffd $(CONF_NAME)mprotect: $(CONF_OBJ) $(TEST_LIB) \
		$(BUILD)/lib/libcodewp-watch.a $(BUILD)/lib/libcodewp.a
	$(call msg,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -pthread -o $@ $^

TESTS_HOST += $(CONF_NAME)uffd $(CONF_NAME)mprotect
TESTS_VM += $(CONF_NAME)kmod $(CONF_NAME)uffd $(CONF_NAME)mprotect

# What an installation gives, in build/tests like all test programs. It makes what
# it installs.
$(BUILD)/tests/install: tests/conformance/install
	$(Q)mkdir -p $(@D)
	$(Q)ln -sf ../../$< $@

TESTS_HOST += $(BUILD)/tests/install
