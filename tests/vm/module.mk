# Libraries of the memory tests in tests/kmod.
LDLIBS_ksyscall_uring := -luring

# Runs in the machines that have KVM, beside the tests: see its head.
TESTS_KVM_HELPER := $(BUILD)/tests/vm/keep-vm

$(TESTS_KVM_HELPER): $(BUILD)/obj/tests/vm/keep-vm.o
	$(call msg,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -static -o $@ $^

test-programs: $(TESTS_KVM_HELPER)
