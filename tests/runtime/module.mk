# SPDX-License-Identifier: GPL-2.0 OR MIT
# The translator's runtime: what the guest can see of it and do to it.

RT := $(BUILD)/tests/runtime
RT_OBJ := $(BUILD)/obj/tests/runtime

TESTS_HOST += $(RT)/runtime
TESTS_VM += $(RT)/runtime-kmod

$(RT)/runtime $(RT)/runtime-kmod: $(RT_OBJ)/runtime.o $(BUILD)/obj/tests/lib/test.o \
		| $(RT)/guest $(RT)/guest-static $(BUILD)/bin/codewp-run
	$(call msg,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -o $@ $^

$(RT)/guest: $(RT_OBJ)/guest.o
	$(call msg,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -pie -o $@ $^

$(RT)/guest-static: $(RT_OBJ)/guest.o
	$(call msg,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -static -no-pie -o $@ $^
