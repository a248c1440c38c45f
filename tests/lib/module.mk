# The test library: link TEST_LIB into a test program.
TEST_LIB := $(BUILD)/obj/tests/lib/test.o
