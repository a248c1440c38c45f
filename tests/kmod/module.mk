# The module's tests: each tests/kmod/*.c is one program, run in the VM.

KMOD_TESTS := $(patsubst tests/kmod/%.c,$(BUILD)/tests/kmod/%,\
		$(wildcard tests/kmod/*.c))
TESTS_VM += $(KMOD_TESTS)

$(KMOD_TESTS): $(BUILD)/tests/kmod/%: $(BUILD)/obj/tests/kmod/%.o $(TEST_LIB) \
		$(KMOD_TEST_LIBS)
	$(call msg,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -o $@ $(filter %.o %.a,$^) -pthread $(LDLIBS_$(@F))
