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

# The stress: with TSan where all is user space, plain with the module.
STRESS_TSAN := $(addprefix $(BUILD)/obj-tsan/,$(addsuffix .o,tests/conformance/stress \
	tests/conformance/conf user/lib/lib user/lib/lock user/lib/track user/lib/state \
	user/lib/ring user/lib/sigcommon user/lib/soft user/lib/uffd user/lib/mprotect \
	user/lib/kmod user/lib/upcall user/lib/strerror)) $(BUILD)/obj/user/lib/upcall_entry.o
STRESS_NAME := $(BUILD)/host-tests/conformance/stress-tsan
STRESS_KMOD := $(BUILD)/tests/stress-kmod

# TSan knows no fences, which the mapping table's readers need; what they read they
# read by atomic loads, which it does know.
$(STRESS_TSAN): ALL_CFLAGS += -pthread -Wno-sign-compare -Wno-tsan
$(BUILD)/obj/tests/conformance/stress.o: ALL_CFLAGS += -pthread -Wno-sign-compare

$(STRESS_NAME)-uffd $(STRESS_NAME)-mprotect: $(STRESS_TSAN) $(TEST_LIB)
	$(call msg,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -fsanitize=thread -pthread -o $@ $^

$(STRESS_KMOD): $(addprefix $(BUILD)/obj/tests/conformance/,stress.o conf.o) $(TEST_LIB) \
		$(BUILD)/lib/libcodewp.a
	$(call msg,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -pthread -o $@ $^

TESTS_HOST += $(STRESS_NAME)-uffd $(STRESS_NAME)-mprotect
TESTS_VM += $(STRESS_KMOD)

# What an installation gives, in build/tests like all test programs. It makes what
# it installs.
$(BUILD)/tests/install: tests/conformance/install
	$(Q)mkdir -p $(@D)
	$(Q)ln -sf ../../$< $@

TESTS_HOST += $(BUILD)/tests/install
