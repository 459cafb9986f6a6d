// pg-boss: drain with fetch and complete of its public API, which is faster than its polling workers, and latency of a polling worker.
// Modes: batch (1000 jobs a fetch) and single (one job a fetch, eight loops).
import PgBoss from "pg-boss";
import { connection, gate, makePool, now, options, report, sleep } from "./common.mjs";

const QUEUE = "bench";
const MODES = { batch: { size: 1000, loops: 4 }, single: { size: 1, loops: 8 } };

async function open() {
  const pool = makePool(1);
  await pool.query("DROP SCHEMA IF EXISTS pgboss CASCADE");
  await pool.end();
  const boss = new PgBoss({ ...connection, max: 16, supervise: false, schedule: false });
  boss.on("error", (error) => console.error(error));
  await boss.start();
  await boss.createQueue(QUEUE);
  return boss;
}

async function prefill(boss, count) {
  for (let left = count; left > 0; left -= 10000) {
    await boss.insert(Array.from({ length: Math.min(left, 10000) }, () => ({ name: QUEUE })));
  }
}

async function drainOnce(boss, { size, loops }) {
  let done = 0;
  const loop = async () => {
    for (;;) {
      const jobs = (await boss.fetch(QUEUE, { batchSize: size })) ?? [];
      if (jobs.length === 0) return;
      await boss.complete(QUEUE, jobs.map((job) => job.id));
      done += jobs.length;
    }
  };
  await Promise.all(Array.from({ length: loops }, loop));
  return done;
}

async function drain(mode, count) {
  const boss = await open();
  await prefill(boss, 1000);
  await drainOnce(boss, MODES[mode]);
  await prefill(boss, count);
  await boss.getDb().executeSql("VACUUM ANALYZE");
  const cpu = process.cpuUsage();
  await gate();
  const begin = now();
  const done = await drainOnce(boss, MODES[mode]);
  const seconds = (now() - begin) / 1000;
  const used = process.cpuUsage(cpu);
  if (done !== count) throw new Error(`drained ${done} of ${count} jobs`);
  await report({ count, seconds, client_us: (used.user + used.system) / count });
  await boss.stop({ graceful: false });
}

// Half a second is the shortest polling interval it allows.
async function latency(mode, count) {
  const boss = await open();
  const waits = [];
  await boss.work(QUEUE, { pollingIntervalSeconds: 0.5 }, async (jobs) => jobs.forEach((job) => waits.push(now() - job.data.at)));
  await gate();
  for (let i = 0; i < count; i++) {
    await boss.send(QUEUE, { at: now() });
    while (waits.length <= i) await sleep(5);
    await sleep(37 * (i % 13));
  }
  await report({ waits });
  await boss.stop({ graceful: false });
}

const { command, mode, count } = options();
await { drain, latency }[command](mode, count);
process.exit(0);
