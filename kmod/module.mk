# The kernel module: `make kmod`, `make check-kmod`.
#
# Built in build/kmod/KVER from links to the sources, so that the tree stays
# clean and several kernels' modules lie beside each other.

KVER	?= $(notdir $(patsubst %/build,%,$(lastword $(shell \
		ls -dv /lib/modules/6.1.*-amd64/build 2>/dev/null))))
KDIR	?= /lib/modules/$(KVER)/build
KMOD_OUT := $(BUILD)/kmod/$(KVER)
KMOD	:= $(KMOD_OUT)/codewp.ko
KMOD_SRC := Kbuild include/uapi/linux/codewp.h kmod/Kbuild \
	    $(wildcard kmod/*.c kmod/*.h)

# The module is made with the kernel's own flags, whatever ours are.
kmod_make = env -u CFLAGS -u MAKEFLAGS -u MAKEOVERRIDES $(MAKE) --no-print-directory -C $(KDIR) \
	    $(if $(V),V=1,-s)

# $(call kmod_tree,DIR): a tree of links that kbuild may write into
kmod_tree = rm -rf $(1) && mkdir -p $(1) && \
	    $(foreach f,$(KMOD_SRC),mkdir -p $(1)/$(dir $(f)) && \
	    ln -s $(CURDIR)/$(f) $(1)/$(f) &&) true

# 6.1's header packages have no vmlinux to make BTF against, and say so.
KMOD_NO_BTF := ^Skipping BTF generation

.PHONY: kmod check-kmod
kmod: $(KMOD)

$(KMOD): $(KMOD_SRC) kmod/module.mk
	$(call msg,KMOD,$@)
	$(Q)test -d "$(KDIR)" || { echo "no kernel headers in $(KDIR):" \
		"install linux-headers-amd64 or set KVER" >&2; exit 1; }
	$(Q)$(call kmod_tree,$(KMOD_OUT)/src)
	$(Q)$(kmod_make) M=$(CURDIR)/$(KMOD_OUT)/src modules >$(KMOD_OUT)/log 2>&1 || \
		{ cat $(KMOD_OUT)/log; exit 1; }
	$(Q)grep -v '$(KMOD_NO_BTF)' $(KMOD_OUT)/log || true
	$(Q)rm -f $(KMOD_OUT)/codewp_kvm.ko
	$(Q)for f in $(KMOD_OUT)/src/kmod/*.ko; do \
		[ $$f = $(KMOD_OUT)/src/kmod/codewp.ko ] || cp $$f $(KMOD_OUT)/; done
	$(Q)cp $(KMOD_OUT)/src/kmod/codewp.ko $@

# modprobe looks in updates/ first, and finds by depmod what is there.
KMOD_DIR = $(DESTDIR)/lib/modules/$(KVER)/updates

install-kmod: $(KMOD)
	$(INSTALL) -D -m 644 $(KMOD) $(KMOD_DIR)/codewp.ko
	$(if $(DESTDIR),,depmod $(KVER))

uninstall-kmod:
	rm -f $(KMOD_DIR)/codewp.ko
	$(if $(DESTDIR),,depmod $(KVER))

# For scripts: the kernel that is built for, and its headers.
.PHONY: print-kmod
print-kmod:
	@printf "KVER='%s' KDIR='%s'\n" '$(KVER)' '$(KDIR)'

# dkms looks for sources here, whatever the prefix of all else.
DKMS_DIR = $(DESTDIR)/usr/src/codewp-$(VERSION)

install-dkms:
	$(foreach f,$(KMOD_SRC),$(INSTALL) -D -m 644 $(f) $(DKMS_DIR)/$(f) &&) true
	sed -e 's|@VERSION@|$(VERSION)|' kmod/dkms.conf.in >$(DKMS_DIR)/dkms.conf

uninstall-dkms:
	rm -rf $(DKMS_DIR)

# W=1, sparse, checkpatch --strict and kernel-doc; any line they print is an
# error. checkpatch comes from the kernel's source package: the headers lack it.
KMOD_CHECKPATCH := $(BUILD)/kmod/scripts/checkpatch.pl
KMOD_CHECK := $(BUILD)/kmod/check

$(KMOD_CHECKPATCH): /usr/src/linux-source-6.1.tar.xz
	$(Q)mkdir -p $(@D)
	$(Q)tar -xJf $< -C $(@D) --strip-components=2 --touch \
		linux-source-6.1/scripts/checkpatch.pl \
		linux-source-6.1/scripts/const_structs.checkpatch \
		linux-source-6.1/scripts/spelling.txt

# Not ours to follow: version tests are what compat.h is for, trace headers
# indent as trace headers do, and codewp.h has the one vm_operations_struct that
# is made at run time.
KMOD_CHECK_NOT_compat.h := LINUX_VERSION_CODE,CONSTANT_COMPARISON
KMOD_CHECK_NOT_trace.h	:= PARENTHESIS_ALIGNMENT,OPEN_ENDED_LINE
KMOD_CHECK_NOT_codewp.h := CONST_STRUCT

check-kmod: $(KMOD_CHECKPATCH)
	$(call msg,CHECK,kmod)
	$(Q)$(call kmod_tree,$(KMOD_CHECK))
	$(Q){ $(kmod_make) M=$(CURDIR)/$(KMOD_CHECK) W=1 C=2 CHECK=sparse modules; \
	      $(foreach f,$(filter %.c %.h,$(KMOD_SRC)),\
		perl $(KMOD_CHECKPATCH) --no-tree --strict --terse --no-summary \
		--max-line-length=100 \
		$(addprefix --ignore=,$(KMOD_CHECK_NOT_$(notdir $(f)))) -f $(f);) \
	      perl $(KDIR)/scripts/kernel-doc -none $(filter %.c %.h,$(KMOD_SRC)); \
	    } 2>&1 | grep -v '$(KMOD_NO_BTF)' >$(KMOD_CHECK)/log; \
	    if [ -s $(KMOD_CHECK)/log ]; then cat $(KMOD_CHECK)/log; exit 1; fi
