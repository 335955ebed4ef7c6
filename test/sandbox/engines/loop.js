// Enough of one function for the compiler of V8, and a server.
const http = require("http");
let sum = 0;
for (let i = 0; i < 1e7; i++) sum += i % 7;
const server = http.createServer((_, answer) => answer.end(String(sum)));
server.listen(29519, "127.0.0.1", () => http.get("http://127.0.0.1:29519/", () => process.exit(0)));
