# SPDX-License-Identifier: GPL-2.0 OR MIT
#
# image.sh: read by tests/vm/run. Makes the initramfs of a machine, $work/initrd, out
# of busybox and init (the base, kept beside the kernel), and what was built, asked
# for and is needed by that (the stage). Reads run's options, and changes nothing else.

# ---- the first, unchanging part of the initramfs: busybox and the skeleton ----

# Everything that decides what is in it is in its name.
base=$kdir/base-$(cat "$vm/init" "$vm/image.sh" /bin/busybox | sha256sum | cut -c1-16).cpio
pack() { (cd "$1" && find . -print0 | cpio -0 -o -H newc -R 0:0 --quiet); }

make_base() {
	local d=$work/base a
	mkdir -p "$d"/{usr/bin,usr/sbin,usr/lib/x86_64-linux-gnu,usr/lib64,etc,proc,sys,dev} \
		"$d"/{tmp,run,root,var,vm,build} "$d"/home/user
	ln -s usr/bin usr/sbin usr/lib usr/lib64 "$d/"
	cp /bin/busybox "$d/usr/bin/"
	for a in $(/bin/busybox --list); do
		[ -e "$d/usr/bin/$a" ] || ln -s busybox "$d/usr/bin/$a"
	done
	ln -s usr/bin/busybox "$d/linuxrc"
	cp "$vm/init" "$d/init"
	printf '%s\n' root:x:0:0:root:/root:/bin/sh user:x:1000:1000:user:/home/user:/bin/sh \
		nobody:x:65534:65534:nobody:/:/bin/sh >"$d/etc/passwd"
	printf '%s\n' root:x:0: user:x:1000: nogroup:x:65534: >"$d/etc/group"
	echo 127.0.0.1 localhost >"$d/etc/hosts"
	pack "$d" >"$base.$$" && mv "$base.$$" "$base"
	rm -rf "$d"
}
[ -e "$base" ] || make_base

# ---- the second part: what was built, what the command needs ----

stage=$work/stage
mkdir -p "$stage/vm"

# The base has these as links into /usr, which must not become folders.
canon() {
	case $1 in
	/bin/*|/sbin/*|/lib/*|/lib64/*) echo "/usr$1" ;;
	*) echo "$1" ;;
	esac
}

place() { # HOST GUEST
	local to
	to=$stage$(canon "/${2#/}")
	[ -e "$1" ] || die "no such file: $1"
	mkdir -p "$(dirname "$to")"
	cp -rL "$1" "$to"
}

if [ -z "$bare" ] && [ -n "$bochs" ]; then
	for a; do
		a=${a#/}
		a=${a%%:*}
		[[ $a != build/* ]] || [ ! -f "$top/$a" ] || place "$top/$a" "$a"
	done
elif [ -z "$bare" ]; then
	for d in bin tests lib; do
		[ -d "$top/build/$d" ] || continue
		mkdir -p "$stage/build/$d"
		# A build may run beside this: a file may go away meanwhile.
		find "$top/build/$d" -mindepth 1 -maxdepth 1 ! -name '*.a' ! -name '.*' \
			-exec cp -rL -t "$stage/build/$d" {} + 2>/dev/null || true
	done
fi
for f in "${files[@]}"; do
	place "${f%%:*}" "${f#*:}"
done

# Shared libraries, and the dynamic loader, of every program on board.
find "$stage" -type f -exec sh -c '
	for f; do
		case $(head -c4 "$f" | tr -d "\0") in
		?ELF) echo "$f" ;;
		esac
	done' sh {} + >"$work/elf"
if [ -s "$work/elf" ]; then
	# ldd's status says that one of them is static, which is no matter.
	{ LD_LIBRARY_PATH=$top/build/lib xargs -d '\n' ldd <"$work/elf" 2>/dev/null || true; } |
		awk '$2 == "=>" && $3 ~ /^\// { print $3 } $1 ~ /^\// && $2 ~ /^\(/ { print $1 }' |
		sort -u >"$work/needed"
	while read -r lib; do
		case $lib in
		"$top"/*) [ -e "$stage${lib#"$top"}" ] || place "$lib" "${lib#"$top"}" ;;
		*) place "$lib" "$lib" ;;
		esac
	done <"$work/needed"
fi

# One .ko file, after those that it depends on; each once.
declare -A listed=()
add_module() { # FILE-BELOW-modules ARGS
	local rel=$1 dep name
	[ -z "${listed[$rel]:-}" ] || return 0
	listed[$rel]=1
	for dep in $(sed -n "s|^$rel: *||p" "$modules/modules.dep" |
		     awk '{ for (i = NF; i; i--) print $i }'); do
		add_module "$dep" ""
	done
	name=$(basename "$rel")
	case $rel in
	*.xz) name=${name%.xz}; xz -dc "$modules/$rel" >"$stage/vm/$name" ;;
	*) cp "$modules/$rel" "$stage/vm/$name" ;;
	esac
	echo "/vm/$name $2" >>"$stage/vm/modules"
}

find_module() { # NAME: its path below $modules; builtin: nothing; else an error
	local name=${1//-/_} path
	path=$(cut -d: -f1 "$modules/modules.dep" | awk -F/ -v n="$name" '{
		f = $NF; sub(/\.ko.*/, "", f); gsub(/-/, "_", f)
		if (f == n) { print; exit } }')
	if [ -z "$path" ]; then
		tr - _ <"$modules/modules.builtin" | grep -q "/$name\.ko" ||
			die "the $release kernel has no module $1"
	fi
	echo "$path"
}

: >"$stage/vm/modules"
for m in "${base_modules[@]}" "${insmod[@]}"; do
	args=
	case $m in
	*:*) args=${m#*:} m=${m%%:*} ;;
	esac
	case $m in
	*.ko)
		cp "$m" "$stage/vm/" || die "no module $m"
		echo "/vm/$(basename "$m") $args" >>"$stage/vm/modules"
		;;
	*)
		path=$(find_module "$m") || exit 125
		[ -z "$path" ] || add_module "$path" "$args"
		;;
	esac
done
if [ -n "$module" ]; then
	found=
	for ko in "$top/build/kmod/$release/codewp.ko" "$top/build/kmod/$line/codewp.ko"; do
		[ -e "$ko" ] && found=$ko && break
	done
	if [ -n "$found" ]; then
		mkdir -p "$stage/build/kmod"
		cp "$found" "$stage/build/kmod/"
		echo "/build/kmod/codewp.ko" >>"$stage/vm/modules"
		if [ -n "$kvm" ] && [ -e "${found%.ko}_kvm.ko" ]; then
			cp "${found%.ko}_kvm.ko" "$stage/build/kmod/"
			echo "/build/kmod/codewp_kvm.ko" >>"$stage/vm/modules"
		fi
	else
		die "codewp.ko for $release is not built (make kmod), and no --no-module"
	fi
fi

quote() { printf "'%s' " "${1//\'/\'\\\'\'}"; }
{
	for e in "TEST_SCALE=${TEST_SCALE:-6}" "CODEWP_VM=1" "${env[@]}"; do
		echo "export ${e%%=*}=$(quote "${e#*=}")"
	done
} >"$stage/vm/environment"
for a; do
	quote "$a"
done >"$stage/vm/command"
printf '%s\n' "${ports[@]}" >"$stage/vm/ports"

# A port cannot tell the guest that the input has ended, so it goes in whole, as a file.
[ -z "$stdin" ] || cat >"$stage/vm/stdin"
[ -z "$shell" ] || cat >"$stage/vm/shell" <<END
codewp on Linux $release. The programs are in /build/bin, the tests in /build/tests;
leave with "exit" (or Ctrl-A X).
END

[ -z "$bochs" ] || [ ! -s "$work/elf" ] ||
	xargs -d '\n' strip --strip-unneeded <"$work/elf" 2>/dev/null || true

cat "$base" >"$work/initrd"
pack "$stage" >>"$work/initrd"

