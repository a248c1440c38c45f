# SPDX-License-Identifier: GPL-2.0 OR MIT
# The differential fuzzer: `make fuzz [N=1000000] [SEED=1] [BACKEND=mprotect]`.

FUZZ := $(BUILD)/tests/fuzz
FUZZ_OBJ := $(BUILD)/obj/tests/fuzz
FUZZ_SEEDS := $(addprefix $(FUZZ)/seeds/,$(notdir $(wildcard tests/fuzz/seeds/*.seq)))

$(FUZZ)/fuzz-guest: $(FUZZ_OBJ)/guest.o $(FUZZ_OBJ)/state.o $(FUZZ_OBJ)/enter.o
	$(call msg,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -static-pie -o $@ $^

$(FUZZ)/seeds/%.seq: tests/fuzz/seeds/%.seq
	$(Q)mkdir -p $(@D)
	$(Q)cp $< $@

$(FUZZ)/fuzz-uffd $(FUZZ)/fuzz-mprotect $(FUZZ)/fuzz-kmod: $(FUZZ_OBJ)/fuzz.o \
		$(FUZZ_OBJ)/gen.o $(FUZZ_OBJ)/state.o \
		$(BUILD)/obj/tests/translator/spawn.o \
		| $(FUZZ)/fuzz-guest $(FUZZ_SEEDS) $(BUILD)/bin/codewp-run
	$(call msg,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -o $@ $^ -lZydis

TESTS_HOST += $(FUZZ)/fuzz-uffd $(FUZZ)/fuzz-mprotect

# fuzz-kmod is for a machine with the module on a real CPU. In the VM it would
# find QEMU's bugs: its emulated CPU loses flags when xchg, xadd or setcc fault,
# does not agree with itself about MMX exponents, and ends with a failed assertion
# at some VEX encodings.

.PHONY: fuzz
fuzz: $(FUZZ)/fuzz-$(or $(BACKEND),mprotect)
	$(Q)$< -n $(or $(N),1000000) $(if $(SEED),-s $(SEED))
