// Plays recorded traffic on Keyv and on Fedify's stores: `node peers.mjs LAYER URL RECORDING CLIENTS`. Requests come on
// standard input, one line of JSON each: {"prefill": SHARE} or {"play": SECONDS}. Same behaviour as the crate `player`.

import { randomBytes } from "node:crypto";
import { createReadStream, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { createGunzip } from "node:zlib";
import { isDeepStrictEqual } from "node:util";

const [layer, url, recording, clients] = process.argv.slice(2);
const [scheme] = url.split(":", 1);
const path = url.slice(scheme.length + 1);

// Keyv takes one string as the key. The segments of the recording do not contain the separator.
const text = (key) => key.join("\u001f");

async function keyv() {
  const { default: Keyv } = await import("keyv");
  const store = await {
    memory: async () => undefined,
    redis: async () => new (await import("@keyv/redis")).default(url),
    postgres: async () => new (await import("@keyv/postgres")).default({ uri: url, table: "keyv" }),
    sqlite: async () => new (await import("@keyv/sqlite")).default({ uri: `sqlite://${path}` }),
  }[scheme]();
  const kv = store === undefined ? new Keyv() : new Keyv({ store });
  kv.on("error", (error) => { throw error; });
  return {
    get: async (key) => await kv.get(text(key)),
    set: async (key, value, ttl) => { await kv.set(text(key), value, ttl ?? undefined); },
    remove: async (key) => { await kv.delete(text(key)); },
    bulk: null,
  };
}

async function fedify() {
  const open = {
    memory: async () => [new (await import("@fedify/fedify")).MemoryKvStore(), null],
    redis: async () => {
      const { Redis } = await import("ioredis");
      const { RedisKvStore } = await import("@fedify/redis");
      return [new RedisKvStore(new Redis(url)), null];
    },
    postgres: async () => {
      const { default: postgres } = await import("postgres");
      const { PostgresKvStore } = await import("@fedify/postgres");
      const sql = postgres(url);
      const store = new PostgresKvStore(sql, { tableName: "fedify" });
      await store.initialize();
      // Loading through the store would take hours: each write scans the whole table for expired rows.
      const bulk = async (rows) => {
        const values = rows.map(([key, value]) => ({ key, value: JSON.parse(value) }));
        await sql.begin(async (sql) => {
          for (const { key, value } of values) {
            await sql`INSERT INTO fedify (key, value) VALUES (${key}, ${sql.json(value)}) ON CONFLICT (key) DO NOTHING`;
          }
        });
      };
      return [store, bulk];
    },
    sqlite: async () => {
      const { DatabaseSync } = await import("node:sqlite");
      // The published package bundles a polyfill without the file that Node imports.
      const modules = new URL("./node_modules/", import.meta.url);
      const own = "@fedify/sqlite/dist/node_modules/.pnpm/@js-temporal_polyfill@0.5.1/node_modules/@js-temporal/polyfill/index.js";
      const polyfill = new URL("@js-temporal/polyfill/dist/index.esm.js", modules);
      writeFileSync(new URL(own, modules), `export * from ${JSON.stringify(polyfill.href)};\n`);
      const { SqliteKvStore } = await import("@fedify/sqlite");
      return [new SqliteKvStore(new DatabaseSync(path)), null];
    },
  }[scheme];
  const [kv, bulk] = await open();
  // The store's table on PostgreSQL refuses JSON's null. The recording stores null for keys that are known to be
  // missing.
  const nothing = scheme === "postgres" ? { nothing: true } : null;
  const { Temporal } = globalThis.Temporal === undefined ? await import("@js-temporal/polyfill") : globalThis;
  return {
    get: async (key) => {
      const found = await kv.get(key);
      return found?.nothing === true ? null : found;
    },
    set: async (key, value, ttl) => {
      await kv.set(key, value === null ? nothing : value, ttl == null ? undefined : { ttl: Temporal.Duration.from({ milliseconds: ttl }) });
    },
    remove: async (key) => { await kv.delete(key); },
    bulk,
  };
}

async function read() {
  const parts = Array.from({ length: Number(clients) }, () => []);
  const lines = createInterface({ input: createReadStream(recording).pipe(createGunzip()), crlfDelay: Infinity });
  for await (const line of lines) {
    const step = JSON.parse(line);
    let hash = 0;
    for (const character of text(step.key)) hash = (Math.imul(hash, 31) + character.codePointAt(0)) | 0;
    parts[Math.abs(hash) % parts.length].push(step);
  }
  return parts;
}

const same = (one, other) => (one ?? undefined) === undefined ? (other ?? undefined) === undefined : isDeepStrictEqual(one, other);

async function play(peer, parts, seconds) {
  const start = performance.now();
  let operations = 0;
  let wrong = 0;
  const client = async (steps) => {
    // The value of a key is unknown before its first write in this run, because earlier runs have left entries.
    const known = new Map();
    for (const step of steps) {
      if (performance.now() - start > seconds * 1000) return;
      const name = text(step.key);
      if (step.op === "get") {
        const found = await peer.get(step.key);
        if (known.has(name) && !same(found, known.get(name))) wrong += 1;
      } else if (step.op === "set") {
        await peer.set(step.key, step.value, step.ttl);
        known.set(name, step.value);
      } else if (step.op === "delete") {
        await peer.remove(step.key);
        known.set(name, undefined);
      } else if (step.op === "cas") {
        const found = await peer.get(step.key);
        const holds = same(found, step.expected);
        if (known.has(name) && same(known.get(name), step.expected) !== holds) wrong += 1;
        if (holds) {
          if ("value" in step) await peer.set(step.key, step.value, step.ttl);
          else await peer.remove(step.key);
          known.set(name, step.value);
        }
      }
      operations += 1;
    }
  };
  // Repeat until at least a tenth of the time has passed.
  do await Promise.all(parts.map(client)); while (performance.now() - start < seconds * 100);
  return { operations, seconds: (performance.now() - start) / 1000, wrong };
}

const FAMILIES = [["publicKey", 200_000, 600, 1_000], ["httpMessageSignaturesSpec", 15_000, 9, 30], ["remoteDocument", 100_000, 5_700, 6_300]];

const value = (random, min, max) => {
  const length = min + Math.floor(random() * (max - min + 1)) - 2;
  return randomBytes(length).toString("base64").slice(0, length);
};

async function prefill(peer, share) {
  const start = performance.now();
  let state = 1;
  const random = () => (state = (state * 48_271) % 2_147_483_647) / 2_147_483_647;
  let entries = 0;
  for (const [family, count, min, max] of FAMILIES) {
    const end = Math.ceil(count * share);
    for (let from = 0; from < end; from += 500) {
      const rows = [];
      for (let number = from; number < Math.min(end, from + 500); number += 1) {
        rows.push([["_fedify", family, `https://h${number % 997}.prefill.example/${number}`], value(random, min, max)]);
      }
      if (peer.bulk === null) await Promise.all(rows.map(([key, made]) => peer.set(key, made, null)));
      else await peer.bulk(rows.map(([key, made]) => [key, JSON.stringify(made)]));
      entries += rows.length;
    }
  }
  return { entries, seconds: (performance.now() - start) / 1000 };
}

const peer = await (layer === "keyv" ? keyv() : fedify());
const parts = await read();
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  const answer = "prefill" in request ? await prefill(peer, request.prefill) : await play(peer, parts, request.play);
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
process.exit(0);
