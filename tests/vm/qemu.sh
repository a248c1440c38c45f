# SPDX-License-Identifier: GPL-2.0 OR MIT
#
# qemu.sh: read by tests/vm/run. Sets $machine, the command that runs QEMU with the
# initramfs $work/initrd, so that the guest's ports 1 to 4 are the files out, err,
# status and klog of $work, and its console is $work/console.

accel=(-accel tcg,thread=multi -smp "$cpus")
[ -z "$icount" ] ||
	accel=(-accel tcg,thread=single -icount shift=0,sleep=off -smp 1)

machine=(qemu-system-x86_64 -M pc -cpu max "${accel[@]}" -m "$mem" -nodefaults
	-no-user-config -display none -no-reboot -kernel "$kdir/kernel"
	-initrd "$work/initrd" "${qemu_args[@]}")
common="console=ttyS0 loglevel=7 $common"

if [ -n "$shell" ]; then
	machine+=(-append "$common quiet" -serial mon:stdio)
	return
fi

mkfifo "$work/out" "$work/err"
machine+=(-append "$common" -serial "file:$work/console" -device virtio-serial-pci)
i=0
for p in out err status klog; do
	i=$((i + 1))
	machine+=(-chardev "file,id=$p,path=$work/$p"
		-device "virtserialport,chardev=$p,nr=$i,name=$p")
done
