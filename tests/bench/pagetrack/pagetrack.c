// SPDX-License-Identifier: GPL-2.0
/*
 * pagetrack.ko - for tests/bench/kvm only: tracks frames of a KVM guest through KVM's
 * page-track API as 6.1 has it, and counts the writes that it is told of. Nobody is
 * woken up: what is measured is the least that this way can cost.
 *
 * /dev/pagetrack: write() a struct pagetrack_range to track it, read() a u64, the
 * count so far. One range for each open file; tracking ends when it is closed.
 *
 * The VM is found by its descriptor, and is KVM's only if file_is_kvm() says so.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kvm_host.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <asm/kvm_page_track.h>

struct pagetrack_range {
	s32 vm;
	u32 gfn;
	u32 pages;
};

struct pagetrack {
	struct kvm_page_track_notifier_node node;
	struct kvm *kvm;
	u32 gfn, pages;
	atomic64_t writes;
};

static void track_write(struct kvm_vcpu *vcpu, gpa_t gpa, const u8 *new, int bytes,
			struct kvm_page_track_notifier_node *node)
{
	struct pagetrack *pt = container_of(node, struct pagetrack, node);
	gfn_t gfn = gpa >> PAGE_SHIFT;

	if (gfn >= pt->gfn && gfn < (gfn_t)pt->gfn + pt->pages)
		atomic64_inc(&pt->writes);
}

static void track_flush_slot(struct kvm *kvm, struct kvm_memory_slot *slot,
			     struct kvm_page_track_notifier_node *node)
{
}

/* Track, or stop tracking, the pages from @from to before @to that are in a slot. */
static u32 set_tracking(struct pagetrack *pt, u32 from, u32 to, bool on)
{
	struct kvm *kvm = pt->kvm;
	struct kvm_memory_slot *slot;
	int idx = srcu_read_lock(&kvm->srcu);
	u32 gfn;

	write_lock(&kvm->mmu_lock);
	for (gfn = from; gfn < to; gfn++) {
		slot = gfn_to_memslot(kvm, gfn);
		if (!slot)
			break;
		if (on)
			kvm_slot_page_track_add_page(kvm, slot, gfn, KVM_PAGE_TRACK_WRITE);
		else
			kvm_slot_page_track_remove_page(kvm, slot, gfn, KVM_PAGE_TRACK_WRITE);
	}
	write_unlock(&kvm->mmu_lock);
	srcu_read_unlock(&kvm->srcu, idx);
	return gfn;
}

static void pagetrack_end(struct pagetrack *pt, u32 tracked_to)
{
	set_tracking(pt, pt->gfn, tracked_to, false);
	kvm_page_track_unregister_notifier(pt->kvm, &pt->node);
	kvm_put_kvm(pt->kvm);
	kfree(pt);
}

static ssize_t pagetrack_write(struct file *file, const char __user *buf, size_t n,
			       loff_t *pos)
{
	struct pagetrack_range r;
	struct pagetrack *pt;
	struct file *vm;
	u32 end;

	if (n != sizeof(r))
		return -EINVAL;
	if (copy_from_user(&r, buf, sizeof(r)))
		return -EFAULT;
	if (check_add_overflow(r.gfn, r.pages, &end) || !r.pages)
		return -EINVAL;
	if (file->private_data)
		return -EBUSY;
	vm = fget(r.vm);
	if (!vm)
		return -EBADF;
	if (!file_is_kvm(vm)) {
		fput(vm);
		return -EINVAL;
	}
	pt = kzalloc(sizeof(*pt), GFP_KERNEL);
	if (!pt) {
		fput(vm);
		return -ENOMEM;
	}
	pt->kvm = vm->private_data;
	kvm_get_kvm(pt->kvm);
	fput(vm);
	pt->gfn = r.gfn;
	pt->pages = r.pages;
	pt->node.track_write = track_write;
	pt->node.track_flush_slot = track_flush_slot;
	kvm_page_track_register_notifier(pt->kvm, &pt->node);
	r.pages = set_tracking(pt, r.gfn, end, true);
	if (r.pages != end) {
		pagetrack_end(pt, r.pages);
		return -ENXIO;
	}
	file->private_data = pt;
	return n;
}

static ssize_t pagetrack_read(struct file *file, char __user *buf, size_t n, loff_t *pos)
{
	struct pagetrack *pt = file->private_data;
	u64 writes;

	if (!pt)
		return -ENODATA;
	if (n != sizeof(writes))
		return -EINVAL;
	writes = atomic64_read(&pt->writes);
	return copy_to_user(buf, &writes, sizeof(writes)) ? -EFAULT : n;
}

static int pagetrack_open(struct inode *inode, struct file *file)
{
	file->private_data = NULL;
	return nonseekable_open(inode, file);
}

static int pagetrack_release(struct inode *inode, struct file *file)
{
	struct pagetrack *pt = file->private_data;

	if (pt)
		pagetrack_end(pt, pt->gfn + pt->pages);
	return 0;
}

static const struct file_operations pagetrack_fops = {
	.owner = THIS_MODULE,
	.open = pagetrack_open,
	.release = pagetrack_release,
	.read = pagetrack_read,
	.write = pagetrack_write,
};

static struct miscdevice pagetrack_dev = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "pagetrack",
	.fops = &pagetrack_fops,
};
module_misc_device(pagetrack_dev);

MODULE_DESCRIPTION("Benchmark: KVM's page-track API");
MODULE_LICENSE("GPL");
