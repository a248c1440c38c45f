// SPDX-License-Identifier: GPL-2.0
/*
 * The views of one shmem inode.
 *
 * A write through a mapping of any view must be told to every view that covers
 * the page: two processes that each made a view of the same memfd both learn of
 * it. So views hang on an object per inode. codewp_mems_lock guards the table
 * and the objects' user counts; codewp_mem.lock the list of views and their
 * overlaps. The list is read under RCU by trap.c and arm.c.
 */
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/hashtable.h>
#include <linux/rculist.h>
#include <linux/slab.h>

#include "codewp.h"

static DEFINE_MUTEX(codewp_mems_lock);
static DEFINE_HASHTABLE(codewp_mems, 8);

static struct codewp_mem *mem_get(struct inode *inode)
{
	struct codewp_mem *mem;

	mutex_lock(&codewp_mems_lock);
	hash_for_each_possible(codewp_mems, mem, node, (unsigned long)inode) {
		if (mem->inode == inode) {
			mem->users++;
			goto out;
		}
	}
	mem = kzalloc(sizeof(*mem), GFP_KERNEL_ACCOUNT);
	if (!mem) {
		mem = ERR_PTR(-ENOMEM);
		goto out;
	}
	mem->inode = inode;
	mem->users = 1;
	mutex_init(&mem->lock);
	INIT_LIST_HEAD(&mem->views);
	hash_add(codewp_mems, &mem->node, (unsigned long)inode);
out:
	mutex_unlock(&codewp_mems_lock);
	return mem;
}

static void mem_put(struct codewp_mem *mem)
{
	mutex_lock(&codewp_mems_lock);
	if (!--mem->users) {
		hash_del(&mem->node);
		kfree(mem);
	}
	mutex_unlock(&codewp_mems_lock);
}

static bool overlap(const struct codewp_view *a, const struct codewp_view *b)
{
	return a->first < b->first + b->nr && b->first < a->first + a->nr;
}

/**
 * codewp_mem_attach() - make the view known to the writes on its file
 * @view: with memfd, first, nr and flags set
 *
 * Return: 0; -EBUSY when a private view would share a page with another one;
 * -ENOMEM.
 */
int codewp_mem_attach(struct codewp_view *view)
{
	struct codewp_mem *mem = mem_get(file_inode(view->memfd));
	struct codewp_view *v;

	if (IS_ERR(mem))
		return PTR_ERR(mem);

	mutex_lock(&mem->lock);
	list_for_each_entry(v, &mem->views, link) {
		if (overlap(v, view) &&
		    ((v->flags | view->flags) & CODEWP_VIEW_PRIVATE)) {
			mutex_unlock(&mem->lock);
			mem_put(mem);
			return -EBUSY;
		}
	}
	view->mem = mem;
	list_for_each_entry(v, &mem->views, link) {
		if (overlap(v, view)) {
			/*
			 * Read in page_mkwrite under the folio lock. Whoever
			 * still reads the old number does so before this view
			 * can take the lock to arm the page.
			 */
			WRITE_ONCE(v->overlaps, v->overlaps + 1);
			view->overlaps++;
		}
	}
	list_add_tail_rcu(&view->link, &mem->views);
	mutex_unlock(&mem->lock);
	return 0;
}

/**
 * codewp_mem_detach() - undo codewp_mem_attach()
 * @view: may be seen by readers of the list until an RCU grace period is over
 *
 * No mapping of the view is left; other views' mappings may be.
 */
void codewp_mem_detach(struct codewp_view *view)
{
	struct codewp_mem *mem = view->mem;
	struct codewp_view *v;

	mutex_lock(&mem->lock);
	list_del_rcu(&view->link);
	list_for_each_entry(v, &mem->views, link)
		if (overlap(v, view))
			WRITE_ONCE(v->overlaps, v->overlaps - 1);
	mutex_unlock(&mem->lock);
	mem_put(mem);
}
