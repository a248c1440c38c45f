-- SPDX-License-Identifier: GPL-2.0 OR MIT
-- Hot enough that LuaJIT compiles it: sieve, and a sum that depends on it.
local function sieve(n)
	local composite, count = {}, 0
	for i = 2, n do
		if not composite[i] then
			count = count + 1
			for j = i * i, n, i do composite[j] = true end
		end
	end
	return count
end

local sum = 0
for i = 1, 20 do sum = sum + sieve(1000 * i) end
for i = 1, 300000 do sum = (sum * 31 + i) % 1000003 end
print(sum)
