# The code map's tests, each program built with ASan and UBSan, with TSan, and
# plain with the lock-order checker; the unit tests also against the library as
# it is shipped. Not in build/tests: the VM has no use for them.
# Named here as well, since tests/ is read before user/ and tests/lib/.
TEST_LIB	:= $(BUILD)/obj/tests/lib/test.o
CODEMAP_TEST_SRC := index page hash jump jc insert invalidate lockcheck
CODEMAP_TEST_A	:= $(BUILD)/lib/libcodewp-codemap.a

CODEMAP_TESTS	:= unit model stress
CODEMAP_KINDS	:= asan tsan debug
CODEMAP_DIR	:= $(BUILD)/host-tests/codemap

CODEMAP_CFLAGS_asan  := -DCODEMAP_DEBUG -fsanitize=address,undefined \
			-fno-sanitize-recover=all -fno-omit-frame-pointer
CODEMAP_CFLAGS_tsan  := -DCODEMAP_DEBUG -fsanitize=thread
CODEMAP_CFLAGS_debug := -DCODEMAP_DEBUG

define codemap_kind
$$(BUILD)/obj-$(1)/%.o: %.c
	$$(call msg,CC,$$@)
	$$(Q)mkdir -p $$(@D)
	$$(Q)$$(CC) $$(ALL_CFLAGS) $$(CODEMAP_CFLAGS_$(1)) -c -o $$@ $$<

$$(CODEMAP_DIR)/%_$(1): $$(BUILD)/obj-$(1)/tests/codemap/%.o \
		$$(CODEMAP_TEST_SRC:%=$$(BUILD)/obj-$(1)/user/codemap/%.o) $$(TEST_LIB)
	$$(call msg,LD,$$@)
	$$(Q)mkdir -p $$(@D)
	$$(Q)$$(CC) $$(CFLAGS) $$(CODEMAP_CFLAGS_$(1)) -o $$@ $$^ -pthread

TESTS_HOST += $$(CODEMAP_TESTS:%=$$(CODEMAP_DIR)/%_$(1))
-include $$(shell find $$(BUILD)/obj-$(1) -name '*.d' 2>/dev/null)
endef
$(foreach kind,$(CODEMAP_KINDS),$(eval $(call codemap_kind,$(kind))))

$(CODEMAP_DIR)/unit_lib: $(BUILD)/obj/tests/codemap/unit.o $(CODEMAP_TEST_A) $(TEST_LIB)
	$(call msg,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -o $@ $^ -pthread
TESTS_HOST += $(CODEMAP_DIR)/unit_lib
