-- Enough of one loop for LuaJIT to compile it.
local sum = 0
for i = 1, 1e7 do sum = sum + i % 7 end
print(sum)
