# The code map, a library of its own. It runs in upcalls: general registers
# only, no stack guard behind the guest's %fs, no loop turned into a call of
# memset or memcpy.
CODEMAP_SRC := index page hash jump jc insert invalidate lockcheck
CODEMAP_OBJ := $(CODEMAP_SRC:%=$(BUILD)/obj/user/codemap/%.o)
CODEMAP_LIB := $(BUILD)/lib/libcodewp-codemap.a
LIBS += $(CODEMAP_LIB)

$(CODEMAP_OBJ): CFLAGS += -mgeneral-regs-only -fno-stack-protector -fPIC \
	-ffreestanding -fno-tree-loop-distribute-patterns -fvisibility=hidden -O3

$(CODEMAP_LIB): $(CODEMAP_OBJ)
	$(call msg,AR,$@)
	$(Q)mkdir -p $(@D)
	$(Q)rm -f $@ && $(AR) rcs $@ $^
