# Libraries of the memory tests in tests/kmod.
LDLIBS_ksyscall_uring := -luring
