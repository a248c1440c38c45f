// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * libffi closures: small pieces of code made at run time, freed and made again
 * in the same memory, and handed to qsort().
 */
#include <ffi.h>
#include <stdio.h>
#include <stdlib.h>

static void sum_handler(ffi_cif *cif, void *ret, void **args, void *user)
{
	*(ffi_arg *)ret = *(int *)args[0] * 2 + *(int *)args[1] + *(int *)user;
}

static void cmp_handler(ffi_cif *cif, void *ret, void **args, void *user)
{
	int a = **(int **)args[0], b = **(int **)args[1];

	++*(int *)user;
	*(ffi_arg *)ret = (a > b) - (a < b);
}

int main(void)
{
	ffi_type *ints[] = { &ffi_type_sint, &ffi_type_sint };
	ffi_type *ptrs[] = { &ffi_type_pointer, &ffi_type_pointer };
	ffi_cif two_ints, two_ptrs;
	long total = 0;
	int v[200], n = 0;
	void *code;
	ffi_closure *c;

	if (ffi_prep_cif(&two_ints, FFI_DEFAULT_ABI, 2, &ffi_type_sint, ints) ||
	    ffi_prep_cif(&two_ptrs, FFI_DEFAULT_ABI, 2, &ffi_type_sint, ptrs))
		return 1;
	for (int i = 0; i < 300; i++) {
		c = ffi_closure_alloc(sizeof(*c), &code);
		if (!c || ffi_prep_closure_loc(c, &two_ints, sum_handler, &i, code))
			return 1;
		total += ((int (*)(int, int))code)(i, 5);
		ffi_closure_free(c);
	}
	printf("%ld\n", total);
	for (int i = 0; i < 200; i++)
		v[i] = i * 7919 % 200;
	c = ffi_closure_alloc(sizeof(*c), &code);
	if (!c || ffi_prep_closure_loc(c, &two_ptrs, cmp_handler, &n, code))
		return 1;
	qsort(v, 200, sizeof(int), (int (*)(const void *, const void *))code);
	for (int i = 0; i < 200; i++)
		if (v[i] != i)
			return 1;
	printf("%d comparisons\n", n);
	return 0;
}
