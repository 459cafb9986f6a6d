// graphile-worker: drain and latency. Modes: default (no batching) and batched (the settings its documentation names for throughput).
import { fork } from "node:child_process";
import { Logger, runMigrations, runTaskList } from "graphile-worker";
import { connection, gate, makePool, now, options, report, sleep } from "./common.mjs";

const CONCURRENCY = 24;
const BATCHED_PROCESSES = 2;
const silent = new Logger(() => () => {});

const settings = (mode, pool, tasks) => ({
  pgPool: pool,
  logger: silent,
  concurrency: CONCURRENCY,
  noHandleSignals: true,
  taskList: tasks,
  ...(mode === "batched" && {
    preset: { worker: { concurrentJobs: CONCURRENCY, localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 } },
  }),
});

// A second process takes jobs too: one JavaScript thread is the limit of the batched mode.
async function child(mode) {
  const pool = makePool(CONCURRENCY);
  let done = 0;
  let workers;
  const timer = setInterval(() => process.send({ done, cpu: process.cpuUsage() }), 10);
  process.on("message", async (message) => {
    if (message === "start") {
      workers = runTaskList(settings(mode, pool, {}), { noop: () => void done++ }, pool);
      return;
    }
    await workers?.gracefulShutdown();
    workers = undefined;
    if (message === "end") {
      clearInterval(timer);
      await pool.end();
      process.disconnect();
    }
  });
}

const prefill = (pool, count) =>
  pool.query(
    `SELECT count(*) FROM graphile_worker.add_jobs(ARRAY(
       SELECT json_populate_record(NULL::graphile_worker.job_spec, '{"identifier": "noop"}') FROM generate_series(1, $1)))`,
    [count],
  );

// Runs until the job table is empty: what was executed must also be completed.
async function drainOnce(mode, pool, children, count) {
  let done = 0;
  const counts = children.map(() => 0);
  children.forEach((c, i) => {
    const base = c.last?.done ?? 0;
    c.removeAllListeners("message");
    c.on("message", (m) => {
      counts[i] = m.done - base;
      c.last = m;
    });
    c.send("start");
  });
  const workers = runTaskList(settings(mode, pool, {}), { noop: () => void done++ }, pool);
  const sum = () => counts.reduce((a, b) => a + b, done);
  while (sum() < count) await sleep(5);
  while ((await pool.query("SELECT 1 FROM graphile_worker._private_jobs LIMIT 1")).rowCount > 0) await sleep(5);
  // Bare, the pool would be awaited: it is a promise of its own end.
  return { workers };
}

async function drain(mode, count) {
  const pool = makePool(CONCURRENCY);
  await runMigrations({ pgPool: pool, logger: silent });
  await pool.query("TRUNCATE graphile_worker._private_jobs, graphile_worker._private_job_queues");
  const children = [];
  for (let i = 1; i < (mode === "batched" ? BATCHED_PROCESSES : 1); i++) {
    // Without our input: the child would take the driver's lines.
    children.push(fork(process.argv[1], ["child", mode, "0"], { stdio: ["ignore", "ignore", "inherit", "ipc"] }));
  }
  await prefill(pool, 2000);
  const { workers: warm } = await drainOnce(mode, pool, children, 2000);
  children.forEach((c) => c.send("pause"));
  await warm.gracefulShutdown();
  await prefill(pool, count);
  await pool.query("VACUUM ANALYZE graphile_worker._private_jobs");
  await sleep(300);
  const cpu = process.cpuUsage();
  const before = children.map((c) => c.last.cpu);
  await gate();
  const begin = now();
  const { workers } = await drainOnce(mode, pool, children, count);
  const seconds = (now() - begin) / 1000;
  const used = process.cpuUsage(cpu);
  const client = children.reduce((a, c, i) => a + c.last.cpu.user + c.last.cpu.system - before[i].user - before[i].system, used.user + used.system);
  await report({ count, seconds, client_us: client / count });
  children.forEach((c) => c.send("end"));
  await workers.gracefulShutdown();
  await pool.end();
}

// One job at a time on an idle worker, submitted through the SQL function; the payload carries the server's clock at submission.
async function latency(mode, count) {
  const pool = makePool(CONCURRENCY);
  const producer = makePool(1);
  await runMigrations({ pgPool: pool, logger: silent });
  await pool.query("TRUNCATE graphile_worker._private_jobs, graphile_worker._private_job_queues");
  const waits = [];
  const workers = runTaskList(settings(mode, pool, {}), { ping: (payload) => void waits.push(now() - payload.at) }, pool);
  await sleep(500);
  await gate();
  for (let i = 0; i < count; i++) {
    await producer.query("SELECT graphile_worker.add_job('ping', json_build_object('at', extract(epoch FROM clock_timestamp()) * 1000))");
    await sleep(10);
  }
  while (waits.length < count) await sleep(5);
  await report({ waits });
  await workers.gracefulShutdown();
  await Promise.all([pool.end(), producer.end()]);
}

const { command, mode, count } = options();
if (!connection.host) throw new Error("BENCH_SOCKET is not set");
await { child, drain, latency }[command](mode, count);
if (command !== "child") process.exit(0);
