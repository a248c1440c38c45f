// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * C++ exceptions: the unwinder walks return addresses on the guest's stack and
 * finds them in the guest's tables, so they must be the guest's own.
 */
#include <cstdio>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

int alive;

struct counted {
	counted() { alive++; }
	counted(const counted &) { alive++; }
	~counted() { alive--; }
};

__attribute__((noinline)) int dig(int depth, int kind)
{
	counted c;

	if (!depth) {
		switch (kind) {
		case 0:
			throw 42;
		case 1:
			throw std::runtime_error("bottom");
		case 2:
			return std::vector<int>(3).at(7);
		case 3:
			throw std::string("text");
		default:
			return 1;
		}
	}
	try {
		return dig(depth - 1, kind) + 1;
	} catch (const std::string &s) {
		if (depth % 10)
			throw;
		return int(s.size());
	}
}

}

int main()
{
	std::map<std::string, int> seen;

	for (int i = 0; i < 200; i++) {
		try {
			seen["returned " + std::to_string(dig(i % 37, i % 5))]++;
		} catch (int v) {
			seen["int " + std::to_string(v)]++;
		} catch (const std::out_of_range &) {
			seen["out of range"]++;
		} catch (const std::exception &e) {
			seen[e.what()]++;
		} catch (...) {
			seen["other"]++;
		}
	}
	for (const auto &s : seen)
		std::printf("%s: %d\n", s.first.c_str(), s.second);
	std::printf("alive %d\n", alive);
	return alive ? 1 : 0;
}
