-- Ordinary Lua for lua5.4 and luajit alike: strings, tables, closures,
-- coroutines, sorting, a sieve. Prints only what both print alike.
local function sieve(n)
	local p, c = {}, 0
	for i = 2, n do p[i] = true end
	for i = 2, n do
		if p[i] then
			c = c + 1
			for j = i * i, n, i do p[j] = false end
		end
	end
	return c
end

local function fib(n)
	if n < 2 then return n end
	return fib(n - 1) + fib(n - 2)
end

local words, seen = {}, {}
for line in io.lines(arg[1]) do
	for w in line:gmatch("%a+") do
		seen[w] = (seen[w] or 0) + 1
	end
end
for w in pairs(seen) do words[#words + 1] = w end
table.sort(words, function(a, b)
	if seen[a] ~= seen[b] then return seen[a] > seen[b] end
	return a < b
end)
for i = 1, 20 do print(words[i], seen[words[i]]) end

local gen = coroutine.wrap(function()
	local a, b = 0, 1
	while true do
		coroutine.yield(a)
		a, b = b, a + b
	end
end)
local t = {}
for i = 1, 40 do t[i] = string.format("%d", gen()) end
print(table.concat(t, " "))
print(sieve(20000), fib(20))
print(pcall(error, { 1 }) , select("#", pcall(error)))
print(("x"):rep(100):gsub("x", function(c) return c .. "y" end))
print(string.format("%5.3f %g %s", math.pi, 1e300, tostring(nil)))
local sum = 0
for i = 1, 200000 do sum = (sum * 31 + i) % 65521 end
print(string.format("%d", sum))
