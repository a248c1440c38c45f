# Tests with guests of KVM: each tests/kvm/*.c is one program, which runs in every
# machine that tests/vm/run --kvm knows.

KVM_TESTS := $(patsubst tests/kvm/%.c,$(BUILD)/tests/kvm/%,$(wildcard tests/kvm/*.c))
TESTS_KVM += $(KVM_TESTS)

KVM_TEST_LIBS := $(if $(wildcard user/vmm/module.mk),$(BUILD)/lib/libvmm.a) \
		$(BUILD)/lib/libcodewp.a

$(KVM_TESTS): $(BUILD)/tests/kvm/%: $(BUILD)/obj/tests/kvm/%.o $(TEST_LIB) $(KVM_TEST_LIBS)
	$(call msg,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -o $@ $(filter %.o %.a,$^) -pthread
