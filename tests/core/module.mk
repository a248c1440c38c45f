# SPDX-License-Identifier: GPL-2.0 OR MIT
#
# The translator's core in a process of its own, over a runtime that is only
# memory as it is (fake.c). Static, so that it is near its code cache.

CORE_TEST := $(addprefix $(BUILD)/host-tests/core/,scan state threads)
CORE_OBJS := $(patsubst %,$(BUILD)/obj/user/translator/%.o,block cache check \
		decode dispatch emit emulate enter hot jump_cache lock restless scan smc string stylized translate)
TESTS_HOST += $(CORE_TEST)

$(BUILD)/obj/tests/core/%.o: CFLAGS += -Iuser/translator -fno-stack-protector \
	-DZYDIS_STATIC_BUILD -DZYCORE_STATIC_BUILD

# Named here as well, since tests/core is read before tests/lib.
TEST_LIB := $(BUILD)/obj/tests/lib/test.o

$(BUILD)/host-tests/core/state: $(BUILD)/obj/tests/core/snippets.o
$(CORE_TEST): $(BUILD)/host-tests/core/%: $(BUILD)/obj/tests/core/%.o \
		$(BUILD)/obj/tests/core/fake.o $(CORE_OBJS) $(TEST_LIB) \
		$(BUILD)/lib/libcodewp-codemap.a $(BUILD)/lib/libzydis.a
	$(call msg,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -static -no-pie -o $@ $^
