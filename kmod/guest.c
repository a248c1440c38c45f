// SPDX-License-Identifier: GPL-2.0
/*
 * Guests: codewp.ko's side of guest.h.
 *
 * guest_lock guards guest_ops, which traps read under RCU, and the setting of
 * codewp_view.guest_owner.
 */
#include <linux/export.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>

#include "codewp.h"

static DEFINE_MUTEX(guest_lock);
static const struct codewp_guest_ops __rcu *guest_ops;

/* Views that there are: without one nobody need look at guests' faults. */
static atomic_t nr_views = ATOMIC_INIT(0);

/**
 * codewp_guest_register() - there is somebody who knows guests' stores
 * @ops: his functions, static
 *
 * Return: 0; -EBUSY: there is another one.
 */
int codewp_guest_register(const struct codewp_guest_ops *ops)
{
	int err = 0;

	mutex_lock(&guest_lock);
	if (rcu_access_pointer(guest_ops))
		err = -EBUSY;
	else
		rcu_assign_pointer(guest_ops, ops);
	mutex_unlock(&guest_lock);
	return err;
}
EXPORT_SYMBOL_GPL(codewp_guest_register);

/**
 * codewp_guest_unregister() - undo codewp_guest_register()
 *
 * When it returns, none of the functions runs. No view holds the module.
 */
void codewp_guest_unregister(void)
{
	mutex_lock(&guest_lock);
	RCU_INIT_POINTER(guest_ops, NULL);
	mutex_unlock(&guest_lock);
	synchronize_rcu();
}
EXPORT_SYMBOL_GPL(codewp_guest_unregister);

/**
 * codewp_guest_wanted() - is there a view
 */
bool codewp_guest_wanted(void)
{
	return atomic_read(&nr_views);
}
EXPORT_SYMBOL_GPL(codewp_guest_wanted);

/**
 * codewp_guest_available() - can a guest's store be stopped now
 */
bool codewp_guest_available(void)
{
	return rcu_access_pointer(guest_ops);
}

/**
 * codewp_guest_view() - a view comes or goes
 * @view: view
 * @comes: it comes
 */
void codewp_guest_view(struct codewp_view *view, bool comes)
{
	if (comes) {
		atomic_inc(&nr_views);
		return;
	}
	atomic_dec(&nr_views);
	module_put(view->guest_owner);
}

/**
 * codewp_guest_hold() - the view is going to rely on STOP
 * @view: view
 *
 * Its first such call holds codewp_kvm.ko until the view is gone.
 * Return: 0; -EOPNOTSUPP: it is not loaded.
 */
int codewp_guest_hold(struct codewp_view *view)
{
	const struct codewp_guest_ops *ops;
	int err = 0;

	if (READ_ONCE(view->guest_owner))
		return 0;
	mutex_lock(&guest_lock);
	ops = rcu_dereference_protected(guest_ops, lockdep_is_held(&guest_lock));
	if (!view->guest_owner) {
		if (ops && try_module_get(ops->owner))
			WRITE_ONCE(view->guest_owner, ops->owner);
		else
			err = -EOPNOTSUPP;
	}
	mutex_unlock(&guest_lock);
	return err;
}

/**
 * codewp_guest_find() - is current's write a guest's
 * @addr: user address of the page
 * @guest: out: whose
 *
 * Under RCU. Return: false: no, or it cannot be told.
 */
bool codewp_guest_find(unsigned long addr, struct codewp_guest *guest)
{
	const struct codewp_guest_ops *ops = rcu_dereference(guest_ops);

	return ops && !(current->flags & PF_KTHREAD) && ops->find(addr, guest);
}

/**
 * codewp_guest_tell() - the guest's access found by codewp_guest_find() was told
 *
 * Under RCU.
 */
void codewp_guest_tell(void)
{
	const struct codewp_guest_ops *ops = rcu_dereference(guest_ops);

	if (ops)
		ops->tell();
}
