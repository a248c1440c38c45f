# SPDX-License-Identifier: GPL-2.0 OR MIT
# The translator's tests: guest programs, and the driver that runs each of them
# natively and translated and compares. One driver per backend.

TT := $(BUILD)/tests/translator
TT_OBJ := $(BUILD)/obj/tests/translator
TT_GUEST := $(TT_OBJ)/guest.o

# An executable stack is what smc_stack is about.
TT_STATIC := smc_stores smc_places smc_hot smc_stylized smc_restless smc_flow smc_syscalls \
	smc_threads insns insns_odd mem_calls mem_bounds \
	signals signals_calls signals_faults signals_threads \
	sys_errors sys_seccomp sys_views
TT_PROGS := $(addprefix $(TT)/guest/,$(TT_STATIC) smc_stack smc_stack-dynamic \
	smc_flow-dynamic smc_places-pie insns-pie insns-dynamic insns-static-pie \
	app_libc app_libc-static app_pcre2 app_ffi app_exceptions app_status \
	app_unsupported app_debug app_limits app_two_maps proc_threads proc_threads-static \
	proc_fork proc_exec proc_storm app_large.so)
# Their cases say "needs", and are skipped without.
TT_REAL_PROGS := $(addprefix $(TT)/guest/,$(if $(wildcard /usr/bin/go),app_go) \
	$(if $(wildcard /usr/bin/rustc),app_rust) \
	$(addprefix app_sanitized-,$(if $(wildcard /usr/lib/x86_64-linux-gnu/libasan.so.*),asan) \
		$(if $(wildcard /usr/lib/x86_64-linux-gnu/libubsan.so.*),ubsan) \
		$(if $(wildcard /usr/lib/x86_64-linux-gnu/libtsan.so.*),tsan)))
# Tables leave out what is zero.
CFLAGS_table := -Wno-missing-field-initializers
CFLAGS_programs := -Wno-missing-field-initializers
TT_DATA := $(addprefix $(TT)/data/,$(notdir $(wildcard tests/translator/data/*)))

# $(call tt_link,flags): what every rule below does with its prerequisites
tt_comma := ,
define tt_link
	$(call msg,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -o $@ $^ $(1)
endef

$(addprefix $(TT)/guest/,$(TT_STATIC)): $(TT)/guest/%: $(TT_OBJ)/%.o $(TT_GUEST)
	$(call tt_link,-static -no-pie)

CFLAGS_smc_stack := -ftrampolines
$(TT)/guest/smc_stack: $(TT_OBJ)/smc_stack.o $(TT_GUEST)
	$(call tt_link,-static -no-pie -z execstack)
$(TT)/guest/smc_stack-dynamic: $(TT_OBJ)/smc_stack.o $(TT_GUEST)
	$(call tt_link,-z execstack)

$(TT)/guest/%-dynamic: $(TT_OBJ)/%.o $(TT_GUEST)
	$(call tt_link,-no-pie)
$(TT)/guest/%-pie: $(TT_OBJ)/%.o $(TT_GUEST)
	$(call tt_link,-pie)
$(TT)/guest/%-static-pie: $(TT_OBJ)/%.o $(TT_GUEST)
	$(call tt_link,-static-pie)
$(TT)/guest/app_libc: $(TT_OBJ)/app_libc.o $(TT_GUEST)
	$(call tt_link,-lm)
$(TT)/guest/app_libc-static: $(TT_OBJ)/app_libc.o $(TT_GUEST)
	$(call tt_link,-static -no-pie -lm)
$(TT)/guest/app_pcre2: $(TT_OBJ)/app_pcre2.o
	$(call tt_link,-Wl$(tt_comma)-Bstatic -lpcre2-8 -Wl$(tt_comma)-Bdynamic -lpthread)
CFLAGS_app_ffi := -Wno-cast-function-type
$(TT)/guest/app_ffi: $(TT_OBJ)/app_ffi.o
	$(call tt_link,-lffi)
$(TT)/guest/app_status: $(TT_OBJ)/app_status.o
	$(call tt_link,)
$(TT)/guest/app_unsupported: $(TT_OBJ)/app_unsupported.o $(TT_GUEST)
	$(call tt_link,-lpthread)

$(TT)/guest/app_limits: $(TT_OBJ)/app_limits.o $(TT_GUEST)
	$(call tt_link,)

$(TT)/guest/app_large.so: tests/translator/app_large.c
	$(call tt_link,-shared -fPIC -nostdlib)

$(TT)/guest/app_debug: $(TT_OBJ)/app_debug.o
	$(call tt_link,-no-pie)

$(TT)/guest/app_two_maps: $(TT_OBJ)/app_two_maps.o
	$(call tt_link,-lpthread)

$(TT)/guest/app_sanitized-%: tests/translator/app_sanitized.c
	$(call msg,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 -D_GNU_SOURCE -O1 -g -w -fsanitize=$(tt_san_$*) -o $@ $<
tt_san_asan := address
tt_san_ubsan := undefined
tt_san_tsan := thread

# No library is fetched: what is used comes with the compilers.
$(TT)/guest/app_go: tests/translator/app_go.go
	$(call msg,GO,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(if $(HOME),,GOCACHE=$(abspath $(TT_OBJ))/go-cache) \
		GO111MODULE=off CGO_ENABLED=0 /usr/bin/go build -o $@ $<
$(TT)/guest/app_rust: tests/translator/app_rust.rs
	$(call msg,RUSTC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)/usr/bin/rustc -O -o $@ $<
$(addprefix $(TT)/guest/,proc_threads proc_fork proc_exec proc_storm): $(TT)/guest/%: $(TT_OBJ)/%.o $(TT_GUEST)
	$(call tt_link,-lpthread)
$(TT)/guest/proc_threads-static: $(TT_OBJ)/proc_threads.o $(TT_GUEST)
	$(call tt_link,-static -no-pie -lpthread)

$(TT)/guest/app_exceptions: tests/translator/app_exceptions.cc
	$(call msg,CXX,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CXX) -Wall -Wextra $(CFLAGS) -o $@ $<

$(TT)/data/%: tests/translator/data/%
	$(Q)mkdir -p $(@D)
	$(Q)cp $< $@

TT_DRIVER := $(TT_OBJ)/compare.o $(TT_OBJ)/spawn.o $(TEST_LIB)
$(TT)/programs-uffd $(TT)/programs-mprotect $(TT)/programs-kmod: \
		$(TT_OBJ)/programs.o $(TT_OBJ)/table.o $(TT_DRIVER) \
		| $(TT_PROGS) $(TT_DATA) $(BUILD)/bin/codewp-run
	$(call tt_link,)

# ---- real programs: one script per case, and what they need built ----

TT_REAL := $(addprefix $(TT)/real/,$(notdir $(wildcard tests/translator/real/*)))
$(TT)/real/%: tests/translator/real/%
	$(Q)mkdir -p $(@D)
	$(Q)cp -p $< $@

$(TT)/real-uffd $(TT)/real-mprotect $(TT)/real-kmod: $(TT_OBJ)/real.o $(TT_DRIVER) \
		| $(TT_PROGS) $(TT_REAL_PROGS) $(TT_REAL) $(TT_DATA) $(BUILD)/bin/codewp-run
	$(call tt_link,)

# ---- what cannot be run; a terminal ----

$(TT)/bad_input-uffd $(TT)/terminal-uffd $(TT)/debug-uffd $(TT)/limits-uffd: \
$(TT)/%-uffd: $(TT_OBJ)/%.o $(TT_DRIVER) \
		| $(TT_PROGS) $(BUILD)/bin/codewp-run
	$(call tt_link,-lutil)

$(TT)/limits-kmod: $(TT_OBJ)/limits.o $(TT_DRIVER) | $(TT_PROGS) $(BUILD)/bin/codewp-run
	$(call tt_link,)

TESTS_HOST += $(TT)/bad_input-uffd $(TT)/terminal-uffd $(TT)/debug-uffd $(TT)/limits-uffd
TESTS_VM += $(TT)/limits-kmod
TESTS_HOST += $(TT)/programs-uffd $(TT)/programs-mprotect $(TT)/real-uffd $(TT)/real-mprotect
TESTS_VM += $(TT)/programs-kmod $(TT)/real-kmod
