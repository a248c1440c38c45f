# Tests with guests of KVM: each tests/kvm/*.c is one program, which runs in every
# machine that tests/vm/run --kvm knows.

KVM_TESTS := $(patsubst tests/kvm/%.c,$(BUILD)/tests/kvm/%,$(wildcard tests/kvm/*.c))
TESTS_KVM += $(KVM_TESTS)

# Named as in user/vmm/module.mk, which is read after this.
KVM_TEST_LIBS := $(addprefix $(BUILD)/lib/,libvmm.a libcodewp.a libcodewp-codemap.a \
		 libzydis.a)

# Guests: pieces that are linked into the tests and copied into a guest's RAM, and
# images for codewp vm.
KVM_PIECES := $(patsubst %.S,$(BUILD)/obj/%.o,$(wildcard tests/kvm/guest/piece_*.S))
KVM_IMAGES := $(BUILD)/tests/kvm-guest/smc16.bin $(BUILD)/tests/kvm-guest/smc64

$(BUILD)/obj/tests/kvm/%.o: CFLAGS += -Iuser/vmm

$(KVM_TESTS): $(BUILD)/tests/kvm/%: $(BUILD)/obj/tests/kvm/%.o $(KVM_PIECES) $(TEST_LIB) \
		$(KVM_TEST_LIBS) | $(KVM_IMAGES)
	$(call msg,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -o $@ $(filter %.o %.a,$^) -pthread

# These run a tool, where there is one.
$(BUILD)/obj/tests/kvm/who.o $(BUILD)/obj/tests/kvm/watch.o: CFLAGS += -Itests/bpf
$(BUILD)/tests/kvm/who $(BUILD)/tests/kvm/watch: $(BUILD)/obj/tests/bpf/tool_util.o | \
	$(addprefix $(BUILD)/bin/,codewp-who codewp-vm codewp-stat)

KVM_IMAGE_LD = $(CC) -static -no-pie -nostdlib -Wl,--build-id=none -Wl,-z,norelro \
	       -Wl,-z,noexecstack

$(BUILD)/tests/kvm-guest/%.bin: $(BUILD)/obj/tests/kvm/guest/%.o
	$(call msg,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(KVM_IMAGE_LD) -Wl,-Ttext=0x1000 -Wl,-N -Wl,--no-warn-rwx-segments -o $(<:.o=.elf) $<
	$(Q)objcopy -O binary $(<:.o=.elf) $@

$(BUILD)/tests/kvm-guest/%64: $(BUILD)/obj/tests/kvm/guest/%64.o
	$(call msg,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(KVM_IMAGE_LD) -Wl,-Ttext-segment=0x200000 -o $@ $<
