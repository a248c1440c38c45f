# SPDX-License-Identifier: GPL-2.0 OR MIT
#
# bochs.sh: read by tests/vm/run. Sets $machine, the command that runs bochs, which
# has VMX with EPT and PML, as qemu.sh does: the serial lines 2 to 4 are the files
# out, err and status of $work, the first is the console.
#
# What is slow here is what the guest executes (some tens of millions of
# instructions a second), and nothing else: the kernel log on the console is short,
# and the kernel does without what it does against speculation. Without clearcpuid the
# kernel finds, and warns of, a wrong size of compacted XSAVE areas in CPUID leaf 13.

vmlinuz=
for f in "$kdir/root/boot/vmlinuz-$release" "$kdir/root/usr/lib/modules/$release/vmlinuz"; do
	[ ! -e "$f" ] || vmlinuz=$f
done
[ -n "$vmlinuz" ] || die "no vmlinuz in $kdir/root"

mkdir "$work/iso"
cp "$vmlinuz" "$work/iso/kernel"
zstd -q -9 <"$work/initrd" >"$work/iso/initrd"
for f in /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32; do
	cp "$f" "$work/iso/" || die "no $f; run tests/setup ept"
done
cat >"$work/iso/isolinux.cfg" <<-END
	default codewp
	label codewp
	kernel kernel
	append initrd=initrd console=ttyS0,115200 loglevel=5 mitigations=off clearcpuid=xsavec,xsaves \
reboot=triple $common
END
xorriso -as mkisofs -quiet -o "$work/cd.iso" -b isolinux.bin -c boot.cat -no-emul-boot \
	-boot-load-size 4 -boot-info-table "$work/iso" >"$work/mkisofs" 2>&1 ||
	die "xorriso: $(tail -n 3 "$work/mkisofs")"

# A panic is fatal and so is a triple fault: the machine ends, it does not boot again.
mkfifo "$work/out" "$work/err"
: >"$work/status"
cat >"$work/bochsrc" <<-END
	config_interface: textconfig
	display_library: rfb, options="timeout=0"
	sound: driver=dummy
	cpu: model=corei7_skylake_x, count=1, ips=100000000, reset_on_triple_fault=0
	clock: sync=none
	memory: guest=$mem, host=$mem
	romimage: file=/usr/share/bochs/BIOS-bochs-latest
	vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
	ata0-master: type=cdrom, path="$work/cd.iso", status=inserted
	boot: cdrom
	com1: enabled=1, mode=file, dev="$work/console"
	com2: enabled=1, mode=file, dev="$work/out"
	com3: enabled=1, mode=file, dev="$work/err"
	com4: enabled=1, mode=file, dev="$work/status"
	log: "$work/bochs.log"
	panic: action=fatal
	error: action=report
	info: action=ignore
	debug: action=ignore
END
# The debugger is built in, and waits for this.
echo continue >"$work/bochs.rc"
machine=(bochs -q -f "$work/bochsrc" -rc "$work/bochs.rc")
