// The shop in Node.js: it answers with its pid and with the version that it was started from.
const fs = require("fs");
const http = require("http");

const [version, life] = fs.readFileSync("version", "utf8").trim().split(":");
if (version === "broken") throw new Error("this version is broken");
if (life) setTimeout(() => process.exit(1), 1000 * life);
const server = http.createServer((request, answer) => {
  answer.setHeader("Connection", "close");
  answer.end(`${process.pid} ${version}\n`);
}).listen(Number(process.env.PORT), "127.0.0.1");
// Where there is a file "drain", it ends only so many seconds after it has been asked to.
if (fs.existsSync("drain")) {
  for (const signal of ["SIGTERM", "SIGINT"]) {
    process.on(signal, () => {
      server.close();
      setTimeout(() => process.exit(0), 1000 * Number(fs.readFileSync("drain", "utf8")));
    });
  }
}
