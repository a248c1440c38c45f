// SPDX-License-Identifier: GPL-2.0
/*
 * What one user may have, as module parameters, and the count of views per
 * user. Memory itself is charged to the caller's cgroup where it is allocated.
 *
 * users_lock guards the table and the counts.
 */
#include <linux/cred.h>
#include <linux/err.h>
#include <linux/hashtable.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>

#include "codewp.h"

unsigned int codewp_max_views = 1024;
module_param_named(max_views, codewp_max_views, uint, 0644);
MODULE_PARM_DESC(max_views, "views that one user may have at a time");

unsigned int codewp_max_ring_bytes = 4U << 20;
module_param_named(max_ring_bytes, codewp_max_ring_bytes, uint, 0644);
MODULE_PARM_DESC(max_ring_bytes, "largest ring in bytes");

unsigned long codewp_max_view_bytes = 1UL << 38;
module_param_named(max_view_bytes, codewp_max_view_bytes, ulong, 0644);
MODULE_PARM_DESC(max_view_bytes, "largest view in bytes");

static DEFINE_MUTEX(users_lock);
static DEFINE_HASHTABLE(users, 6);

static struct codewp_user *user_find(kuid_t uid)
{
	struct codewp_user *user;

	hash_for_each_possible(users, user, node, __kuid_val(uid))
		if (uid_eq(user->uid, uid))
			return user;
	return NULL;
}

/**
 * codewp_user_charge() - one view more for the caller's user
 *
 * Return: to give to codewp_user_uncharge(), or ERR_PTR: -ENOSPC when the user
 * has max_views already, -ENOMEM.
 */
struct codewp_user *codewp_user_charge(void)
{
	kuid_t uid = current_uid();
	struct codewp_user *user;

	mutex_lock(&users_lock);
	user = user_find(uid);
	if (!user) {
		user = kzalloc(sizeof(*user), GFP_KERNEL_ACCOUNT);
		if (!user) {
			user = ERR_PTR(-ENOMEM);
			goto out;
		}
		user->uid = uid;
		hash_add(users, &user->node, __kuid_val(uid));
	}
	if (user->views >= READ_ONCE(codewp_max_views)) {
		if (!user->views) {
			hash_del(&user->node);
			kfree(user);
		}
		user = ERR_PTR(-ENOSPC);
		goto out;
	}
	user->views++;
out:
	mutex_unlock(&users_lock);
	return user;
}

/**
 * codewp_user_uncharge() - undo codewp_user_charge()
 * @user: its result
 */
void codewp_user_uncharge(struct codewp_user *user)
{
	mutex_lock(&users_lock);
	if (!--user->views) {
		hash_del(&user->node);
		kfree(user);
	}
	mutex_unlock(&users_lock);
}

/**
 * codewp_user_views() - views that the caller's user has now
 */
unsigned int codewp_user_views(void)
{
	struct codewp_user *user;
	unsigned int views;

	mutex_lock(&users_lock);
	user = user_find(current_uid());
	views = user ? user->views : 0;
	mutex_unlock(&users_lock);
	return views;
}
