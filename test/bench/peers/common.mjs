// What both peers share: the connection, the hand-shake with the driver, and the client's own CPU time.
import readline from "node:readline";
import pg from "pg";

// The driver names the socket's directory; a host that begins with a slash is one for this client library.
export const connection = {
  host: process.env.BENCH_SOCKET,
  port: Number(process.env.BENCH_PORT ?? 5432),
  user: "postgres",
  database: process.env.BENCH_DATABASE,
};

export const makePool = (max) => {
  const pool = new pg.Pool({ ...connection, max });
  pool.on("error", () => {});
  pool.on("connect", (client) => client.on("error", () => {}));
  return pool;
};

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

// Says that everything is prepared and waits until the driver has read the server's counters.
export async function gate() {
  process.stdout.write("ready\n");
  await lines.next();
}

// Reports and waits again, so that what ends this process is not counted.
export async function report(figures) {
  process.stdout.write(JSON.stringify(figures) + "\n");
  await lines.next();
}

// Wall-clock time with microseconds, comparable with the server's on the same machine.
export const now = () => performance.timeOrigin + performance.now();

export function options() {
  const [command, mode, count] = process.argv.slice(2);
  return { command, mode, count: Number(count) };
}
