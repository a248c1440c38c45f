-- Makes luajit compile and recompile: hot loops, many traces, side exits,
-- flushing of all machine code, FFI.
local function nbody(n)
	local x, v = 1.0, 0.0
	for i = 1, n do
		v = v - x * 0.001
		x = x + v * 0.001
	end
	return x
end
print(string.format("%.12f", nbody(300000)))

local bit = require("bit")
local h = 0
for i = 1, 300000 do
	h = bit.bxor(bit.rol(h, 5), i)
	if h % 7 == 0 then h = bit.bnot(h) end
	if h % 1001 == 3 then h = h + 1 end
end
print(h)

-- hundreds of traces: each function is new code for the JIT
local total = 0
for i = 1, 150 do
	local f = loadstring(string.format(
		"local a = ... local s = 0 for i = 1, 200 do s = s + a * %d + i %% %d end return s", i, i + 1))
	for k = 1, 3 do total = total + f(k) end
end
print(string.format("%d", total))

for round = 1, 10 do
	jit.flush()
	local s = 0
	for i = 1, 5000 do s = s + i % round end
	total = total + s
end
print(string.format("%d", total))

local ffi = require("ffi")
ffi.cdef("typedef struct { double x, y; int n; } point; int abs(int);")
local pts = ffi.new("point[?]", 1000)
for i = 0, 999 do
	pts[i].x, pts[i].y, pts[i].n = i * 0.5, i * 2, i
end
local s = 0
for round = 1, 50 do
	for i = 0, 999 do s = s + pts[i].x * pts[i].y + ffi.C.abs(-pts[i].n) end
end
print(string.format("%.1f", s))

local parts = {}
for i = 1, 20000 do parts[#parts + 1] = string.char(65 + i % 26) end
print(#table.concat(parts), (jit.status()))
